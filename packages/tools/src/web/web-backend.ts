// `search` and `access` on the live web: one search engine, one reader of pages, a cache. Owns what is looked up and what
// is kept.
import { isIP } from "node:net";
import { contentKey, type DiskCache } from "@wideseek/cache";
import type { SearchBackend, SearchHit } from "@wideseek/spec";
import { z } from "zod";
import type { PageReader, SearchEngine } from "./engine.ts";
import { isPublicAddress, notPublic } from "./public-address.ts";
import { SharedLookups } from "./shared-lookups.ts";
import { bareHost, parseWebUrl } from "./web-url.ts";

export interface WebBackendParts {
  engine: SearchEngine;
  reader: PageReader;
  /** Throws for addresses that may not be read, redirects included. */
  checkAddress(url: URL): void;
  /** Closed with the backend. */
  cache?: DiskCache | undefined;
}

const cachedHitsSchema = z.array(z.object({ url: z.string(), title: z.string(), contents: z.string() }));
/** Null: there is no page at the address. */
const cachedPageSchema = z.object({ text: z.string() });

export class WebBackend implements SearchBackend {
  readonly #parts: WebBackendParts;
  readonly #shared = new SharedLookups();
  readonly #counts = { searches: 0, accesses: 0, cache_hits: 0 };

  constructor(parts: WebBackendParts) {
    this.#parts = parts;
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const { engine } = this.#parts;
    this.#counts.searches += 1;
    return await this.#lookUp(
      contentKey(["search", engine.identity, query, count]),
      cachedHitsSchema,
      (inner) => engine.search(query, count, inner),
      // No hits may be the engine's trouble: worth another try in the next run.
      (hits) => hits.length > 0,
      signal,
    );
  }

  async access(address: string, signal?: AbortSignal): Promise<string | null> {
    const { reader, checkAddress } = this.#parts;
    this.#counts.accesses += 1;
    const url = parseWebUrl(address);
    const host = bareHost(url.hostname);
    // No service is told about our own network either.
    if (isIP(host) !== 0 && !isPublicAddress(host)) throw notPublic(host);
    checkAddress(url);
    const page = await this.#lookUp(
      contentKey(["access", reader.identity, url.href]),
      cachedPageSchema.nullable(),
      async (inner) => {
        const text = await reader.read(url, checkAddress, inner);
        return text === null ? null : { text };
      },
      // That there is no page is a failure, and so is an empty one: tomorrow there may be one.
      (found) => found !== null && found.text.trim() !== "",
      signal,
    );
    return page?.text ?? null;
  }

  metrics(): Readonly<Record<string, number>> {
    const { engine, reader, cache } = this.#parts;
    return {
      ...this.#counts,
      ...(cache !== undefined && { cache_skipped: cache.numSkipped }),
      ...engine.metrics(),
      ...reader.metrics(),
    };
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { engine, reader, cache } = this.#parts;
    await Promise.all([engine[Symbol.asyncDispose](), reader[Symbol.asyncDispose]()]);
    cache?.[Symbol.dispose]();
  }

  async #lookUp<T>(
    key: Uint8Array,
    schema: z.ZodType<T>,
    ask: (signal: AbortSignal) => Promise<T>,
    isWorthKeeping: (answer: T) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    signal?.throwIfAborted();
    const { cache } = this.#parts;
    const cached = schema.safeParse(cache?.get(key));
    if (cached.success) {
      this.#counts.cache_hits += 1;
      return cached.data;
    }
    const start = async (inner: AbortSignal): Promise<T> => {
      const answer = await ask(inner);
      if (isWorthKeeping(answer)) cache?.put(key, answer);
      return answer;
    };
    return await this.#shared.run(Buffer.from(key).toString("hex"), start, signal);
  }
}
