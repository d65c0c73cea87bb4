// Google results through Serper, asked as published: `POST /search` with the query and a count.
import type { SearchHit } from "@wideseek/spec";
import { z } from "zod";
import type { SearchEngine } from "./engine.ts";
import { readJson, type Service } from "./services.ts";
import type { WebClient } from "./web-client.ts";

const answerSchema = z.object({
  organic: z
    .array(z.object({ title: z.string().nullish(), link: z.string(), snippet: z.string().nullish() }))
    .nullish(),
});

export interface SerperOptions {
  endpoint: string;
  /** Country and language of the results as Google names them; null = Google's choice. */
  country: string | null;
  language: string | null;
}

export class Serper implements SearchEngine {
  readonly identity: string;
  readonly #client: WebClient;
  readonly #options: SerperOptions;
  readonly #service: Service;

  constructor(client: WebClient, options: SerperOptions, key: string, keyName: string) {
    this.#client = client;
    this.#options = options;
    this.identity = `serper ${JSON.stringify(options)}`;
    this.#service = { name: "serper", key, refusalHint: `is the key in ${keyName} right, and has it credits left?` };
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const { endpoint, country, language } = this.#options;
    const { key } = this.#service;
    const body = {
      q: query,
      num: count,
      ...(country !== null && { gl: country }),
      ...(language !== null && { hl: language }),
    };
    const response = await this.#client.fetch(
      {
        url: new URL(endpoint),
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": key },
        body: JSON.stringify(body),
        waitsForHost: true,
        secret: key,
      },
      signal,
    );
    const { organic } = readJson(this.#service, response, answerSchema);
    return (organic ?? []).slice(0, count).map(({ title, link, snippet }) => ({
      url: link,
      title: title ?? "",
      contents: `${title ?? ""} ${snippet ?? ""}`.trim(),
    }));
  }

  metrics(): Readonly<Record<string, number>> {
    const { numRequests, numRetries, numFailures } = this.#client;
    return { search_requests: numRequests, search_retries: numRetries, search_failures: numFailures };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.close();
  }
}
