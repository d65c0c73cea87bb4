// Worker threads over one index folder: searches never hold the event loop. Owns threads and what waits for them.
import { Worker } from "node:worker_threads";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { LRUCache } from "lru-cache";
import type { FoundRecord, PageSource, Retriever } from "./retriever.ts";
import type { SearchReply, SearchRequest, SearchWorkerData } from "./search-worker.ts";
import { readLengths, readManifest } from "./term-index.ts";

export interface SearchPoolOptions {
  directory: string;
  /** Threads that search. */
  workers: number;
  /** Postings that each thread keeps in memory, in MiB. */
  cacheMiB: number;
  /** Answers of searches that are kept; 0 = none. */
  cachedQueries: number;
}

interface Waiting {
  resolve(reply: SearchReply): void;
  reject(error: WideSeekError): void;
}

interface Thread {
  worker: Worker;
  waiting: Map<number, Waiting>;
  /** Sent together at the end of the turn: a message costs more than what is in it. */
  outbox: SearchRequest[];
}

type Ask = { kind: "search"; queries: readonly string[]; count: number } | { kind: "access"; urls: readonly string[] };

export class SearchPool implements Retriever, PageSource {
  readonly numRows: number;
  readonly #data: SearchWorkerData;
  readonly #threads: Thread[] = [];
  readonly #answers: LRUCache<string, FoundRecord[]> | null;
  #nextId = 0;
  #closed = false;

  private constructor({ directory, cacheMiB, cachedQueries }: SearchPoolOptions) {
    this.numRows = readManifest(directory).numRows;
    this.#data = { directory, cacheMiB, lengths: readLengths(directory) };
    this.#answers = cachedQueries === 0 ? null : new LRUCache({ max: cachedQueries });
  }

  /** Resolves when every thread has opened the index. @throws WS_IO, WS_CORRUPT_FILE */
  static async open(options: SearchPoolOptions): Promise<SearchPool> {
    const pool = new SearchPool(options);
    try {
      await Promise.all(Array.from({ length: options.workers }, () => pool.#start()));
      return pool;
    } catch (error) {
      await pool[Symbol.asyncDispose]();
      throw error;
    }
  }

  async retrieve(queries: readonly string[], count: number, signal?: AbortSignal): Promise<FoundRecord[][]> {
    const results = queries.map((query) => this.#answers?.get(`${count} ${query}`));
    const open = queries.filter((_, i) => results[i] === undefined);
    if (open.length > 0) {
      const reply = await this.#ask({ kind: "search", queries: open, count }, signal);
      if (!("found" in reply)) throw new WideSeekError("WS_INTERNAL", "a search thread answered something else");
      for (const [i, found] of reply.found.entries()) this.#answers?.set(`${count} ${open[i]}`, found);
      let next = 0;
      return results.map((known) => known ?? (reply.found[next++] as FoundRecord[]));
    }
    return results as FoundRecord[][];
  }

  async access(urls: readonly string[], signal?: AbortSignal): Promise<(string | null)[]> {
    const reply = await this.#ask({ kind: "access", urls }, signal);
    if (!("pages" in reply)) throw new WideSeekError("WS_INTERNAL", "a search thread answered something else");
    return reply.pages;
  }

  async check(): Promise<void> {
    if (this.#closed) throw closedError();
    if (this.#threads.length === 0) throw new WideSeekError("WS_IO", "no search thread is running");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const threads = this.#threads.splice(0);
    for (const thread of threads) fail(thread, closedError());
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #start(): Promise<void> {
    const isSource = import.meta.url.endsWith(".ts");
    const file = new URL(isSource ? "./search-worker.ts" : "./search-worker.js", import.meta.url);
    const worker = new Worker(file, {
      workerData: this.#data,
      // Node runs the sources as they are, but must be told that packages have sources too.
      ...(isSource ? { execArgv: ["--conditions=@wideseek/source", "--disable-warning=ExperimentalWarning"] } : {}),
    });
    const thread: Thread = { worker, waiting: new Map(), outbox: [] };
    return new Promise((resolve, reject) => {
      worker.on("message", (replies: SearchReply[]) => {
        if (replies.length === 0) {
          this.#threads.push(thread);
          resolve();
        }
        for (const reply of replies) {
          thread.waiting.get(reply.id)?.resolve(reply);
          thread.waiting.delete(reply.id);
        }
      });
      worker.on("error", (cause) => {
        const error = new WideSeekError("WS_IO", `a search thread failed: ${errorMessage(cause)}`, { cause });
        this.#drop(thread, error);
        reject(error);
      });
      worker.on("exit", () => {
        const error = new WideSeekError("WS_IO", "a search thread ended");
        this.#drop(thread, error);
        reject(error);
      });
    });
  }

  /** What waits for a dead thread fails; another thread takes its place. */
  #drop(thread: Thread, error: WideSeekError): void {
    const place = this.#threads.indexOf(thread);
    fail(thread, error);
    if (place === -1) return;
    this.#threads.splice(place, 1);
    // A thread that cannot start again leaves the others; without any, searches and `check` say so.
    if (!this.#closed) this.#start().catch(() => undefined);
  }

  #ask(ask: Ask, signal: AbortSignal | undefined): Promise<SearchReply> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(closedError());
      signal?.throwIfAborted();
      let thread: Thread | undefined;
      for (const each of this.#threads)
        if (thread === undefined || each.waiting.size < thread.waiting.size) thread = each;
      if (thread === undefined) return reject(new WideSeekError("WS_IO", "no search thread is running"));
      const chosen = thread;
      const id = this.#nextId++;
      const onAbort = (): void => {
        chosen.waiting.delete(id);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      chosen.waiting.set(id, {
        resolve: (reply) => {
          signal?.removeEventListener("abort", onAbort);
          if ("error" in reply) reject(new WideSeekError("WS_IO", `search: ${reply.error}`));
          else resolve(reply);
        },
        reject: (error) => {
          signal?.removeEventListener("abort", onAbort);
          reject(error);
        },
      });
      if (chosen.outbox.length === 0) {
        queueMicrotask(() => {
          const requests = chosen.outbox;
          chosen.outbox = [];
          chosen.worker.postMessage(requests);
        });
      }
      chosen.outbox.push({ id, ...ask });
    });
  }
}

function fail(thread: Thread, error: WideSeekError): void {
  for (const { reject } of thread.waiting.values()) reject(error);
  thread.waiting.clear();
}

function closedError(): WideSeekError {
  return new WideSeekError("WS_CLOSED", "the search index is closed");
}
