// A SearXNG of one's own: `GET /search?format=json`.
import type { SearchHit } from "@wideseek/spec";
import { z } from "zod";
import type { SearchEngine } from "./engine.ts";
import { readJson, type Service } from "./services.ts";
import type { WebClient } from "./web-client.ts";

const answerSchema = z.object({
  results: z.array(z.object({ url: z.string(), title: z.string().nullish(), content: z.string().nullish() })),
});
/** A page of SearXNG has about ten results; more pages than these are not worth the wait. */
const maxPages = 5;

export interface SearxngOptions {
  baseUrl: string;
  /** Comma-separated names of SearXNG's engines or categories; null = as the instance is set up. */
  engines: string | null;
  categories: string | null;
  language: string | null;
}

export class Searxng implements SearchEngine {
  readonly identity: string;
  readonly #client: WebClient;
  readonly #options: SearxngOptions;
  readonly #service: Service = {
    name: "searxng",
    key: "",
    refusalHint: "its settings.yml must list json under search.formats, and its limiter must let this machine through",
  };

  constructor(client: WebClient, options: SearxngOptions) {
    this.#client = client;
    this.#options = options;
    this.identity = `searxng ${JSON.stringify(options)}`;
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const hits = new Map<string, SearchHit>();
    for (let page = 1; page <= maxPages && hits.size < count; page += 1) {
      const found = await this.#page(query, page, signal);
      const before = hits.size;
      for (const hit of found) if (!hits.has(hit.url)) hits.set(hit.url, hit);
      if (hits.size === before) break;
    }
    return [...hits.values()].slice(0, count);
  }

  async #page(query: string, page: number, signal: AbortSignal | undefined): Promise<SearchHit[]> {
    const { baseUrl, engines, categories, language } = this.#options;
    const url = new URL("search", baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`);
    const parameters = { q: query, format: "json", pageno: `${page}`, engines, categories, language };
    for (const [name, value] of Object.entries(parameters)) if (value !== null) url.searchParams.set(name, value);
    const request = { url, headers: { accept: "application/json" }, waitsForHost: true, secret: "" };
    const { results } = readJson(this.#service, await this.#client.fetch(request, signal), answerSchema);
    return results.map(({ url: address, title, content }) => ({
      url: address,
      title: title ?? "",
      contents: `${title ?? ""} ${content ?? ""}`.trim(),
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
