// Keeps what a list of leaks names away from agents, whatever the backend: hits are left out, pages refused, both counted.
import { type SearchBackend, type SearchHit, WideSeekError } from "@wideseek/spec";
import type { LeakBlocklist } from "./leak-blocklist.ts";

export class LeakFilter implements SearchBackend {
  readonly #blocklist: LeakBlocklist;
  readonly #backend: SearchBackend;
  readonly #counts = { blocked_hits: 0, blocked_pages: 0 };

  /** @param open gets the check for addresses that only show on the way to a page, such as redirects. */
  constructor(blocklist: LeakBlocklist, open: (checkAddress: (url: URL) => void) => SearchBackend) {
    this.#blocklist = blocklist;
    this.#backend = open(({ href }) => this.#check(href));
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const hits = await this.#backend.search(query, count, signal);
    const kept = hits.filter(
      ({ url, title, contents }) =>
        !this.#blocklist.blocksAddress(url) && !this.#blocklist.blocksText(`${title}\n${contents}`),
    );
    this.#counts.blocked_hits += hits.length - kept.length;
    return kept;
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    this.#check(url);
    const page = await this.#backend.access(url, signal);
    if (page !== null && this.#blocklist.blocksText(page)) this.#refuse(url);
    return page;
  }

  metrics(): Readonly<Record<string, number>> {
    return { ...this.#backend.metrics?.(), ...this.#counts };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.#backend[Symbol.asyncDispose]());
  }

  #check(address: string): void {
    if (this.#blocklist.blocksAddress(address)) this.#refuse(address);
  }

  #refuse(address: string): never {
    this.#counts.blocked_pages += 1;
    const message = `${address.slice(0, 200)}: this address may not be used for this task; use others`;
    throw new WideSeekError("WS_UNSUPPORTED", message, { op: "access" });
  }
}
