// Counts lookups, and those that found nothing: a corpus without the pages of the questions shows by their share.
import type { SearchBackend, SearchHit } from "@wideseek/spec";

/** `metrics` adds `lookups` and `lookups_without_result` to what the backend counts; closing closes it too. */
export class CountedBackend implements SearchBackend {
  readonly #backend: SearchBackend;
  #numLookups = 0;
  #numWithoutResult = 0;

  constructor(backend: SearchBackend) {
    this.#backend = backend;
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const hits = await this.#backend.search(query, count, signal);
    this.#count(hits.length > 0);
    return hits;
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    const page = await this.#backend.access(url, signal);
    this.#count(page !== null);
    return page;
  }

  metrics(): Readonly<Record<string, number>> {
    const counts = { lookups: this.#numLookups, lookups_without_result: this.#numWithoutResult };
    return { ...counts, ...this.#backend.metrics?.() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#backend[Symbol.asyncDispose]();
  }

  /** A lookup that failed is counted elsewhere: it says nothing about what is there. */
  #count(found: boolean): void {
    this.#numLookups += 1;
    if (!found) this.#numWithoutResult += 1;
  }
}
