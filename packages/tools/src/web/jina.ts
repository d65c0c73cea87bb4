// Pages as Markdown through Jina Reader: `GET https://r.jina.ai/<address>`.
import { WideSeekError } from "@wideseek/spec";
import type { PageReader } from "./engine.ts";
import { requireOk, type Service } from "./services.ts";
import type { WebClient } from "./web-client.ts";

/** Where Jina says, with status 200, that the page itself was an error. */
const headCharacters = 2000;

export interface JinaOptions {
  endpoint: string;
}

export class JinaReader implements PageReader {
  readonly identity: string;
  readonly #client: WebClient;
  readonly #options: JinaOptions;
  readonly #service: Service;

  constructor(client: WebClient, options: JinaOptions, key: string, keyName: string) {
    this.#client = client;
    this.#options = options;
    this.identity = `jina ${JSON.stringify(options)}`;
    this.#service = { name: "jina", key, refusalHint: `is the key in ${keyName} right, and has it tokens left?` };
  }

  async read(url: URL, checkAddress: (url: URL) => void, signal?: AbortSignal): Promise<string | null> {
    checkAddress(url);
    const { endpoint } = this.#options;
    const { key } = this.#service;
    const response = await this.#client.fetch(
      {
        url: new URL((endpoint.endsWith("/") ? endpoint : `${endpoint}/`) + url.href),
        headers: { authorization: `Bearer ${key}`, accept: "text/plain" },
        waitsForHost: true,
        secret: key,
      },
      signal,
    );
    // What Jina says about the page, not about us.
    if ([400, 404, 409, 410, 415, 422, 451].includes(response.status)) {
      throw unreadable(url, `it could not be read (status ${response.status}); try another one`);
    }
    requireOk(this.#service, response);
    const text = response.body.toString("utf8");
    const warning = /^Warning: Target URL returned error (\d{3})/m.exec(text.slice(0, headCharacters));
    if (warning?.[1] === "404" || warning?.[1] === "410") return null;
    if (warning !== null) throw unreadable(url, `its server answers with status ${warning[1]}; try another one`);
    return text;
  }

  metrics(): Readonly<Record<string, number>> {
    const { numRequests, numRetries, numFailures } = this.#client;
    return { access_requests: numRequests, access_retries: numRetries, access_failures: numFailures };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.close();
  }
}

function unreadable(url: URL, why: string): WideSeekError {
  return new WideSeekError("WS_IO", `${url.href}: ${why}`, { op: "access", details: { url: url.href } });
}
