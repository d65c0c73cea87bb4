// Text of pages, made in worker threads: a page of megabytes would hold the event loop for seconds, and a hostile one for
// ever. Owns the threads and their limits.
import { errorMessage, Slots, WideSeekError } from "@wideseek/spec";
import { Tinypool } from "tinypool";

export interface PageExtractorOptions {
  /** Default 2. */
  threads?: number | undefined;
  /** Seconds for one page; its thread is then ended and replaced. Default 20. */
  timeoutSeconds?: number | undefined;
  /** MiB of memory of one thread. Default 1024. */
  memoryMiB?: number | undefined;
}

export class PageExtractor {
  readonly #options: Required<{ [key in keyof PageExtractorOptions]: number }>;
  /** Threads are started by the first page. */
  #pool: Tinypool | undefined;
  /** Waiting for a thread is no reason to be late. */
  readonly #slots: Slots;
  readonly #closing = new AbortController();

  constructor({ threads = 2, timeoutSeconds = 20, memoryMiB = 1024 }: PageExtractorOptions = {}) {
    this.#options = { threads, timeoutSeconds, memoryMiB };
    this.#slots = new Slots(threads);
  }

  /** Markdown of a page. @throws WS_IO when it cannot be made out in time, WS_CLOSED, the caller's abort reason */
  async extract(html: string, address: string, signal?: AbortSignal): Promise<string> {
    const closing = this.#closing.signal;
    const stop = signal === undefined ? closing : AbortSignal.any([signal, closing]);
    return await this.#slots.run(() => this.#run(html, address, stop), stop);
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort(new WideSeekError("WS_CLOSED", "the reader of pages is closed", { op: "extract" }));
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.destroy();
  }

  async #run(html: string, address: string, stop: AbortSignal): Promise<string> {
    const { timeoutSeconds } = this.#options;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), timeoutSeconds * 1000);
    try {
      this.#pool ??= this.#start();
      return (await this.#pool.run({ html, address }, { signal: AbortSignal.any([stop, timeout.signal]) })) as string;
    } catch (cause) {
      stop.throwIfAborted();
      const why = timeout.signal.aborted ? `within ${timeoutSeconds} s` : `: ${errorMessage(cause).slice(0, 200)}`;
      const message = `${address}: its text could not be made out${timeout.signal.aborted ? " " : ""}${why}`;
      throw new WideSeekError("WS_IO", message, { op: "extract", cause });
    } finally {
      clearTimeout(timer);
    }
  }

  #start(): Tinypool {
    const { threads, memoryMiB } = this.#options;
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    return new Tinypool({
      filename: new URL(`./page-worker.${extension}`, import.meta.url).href,
      runtime: "worker_threads",
      minThreads: 0,
      maxThreads: threads,
      idleTimeout: 10_000,
      concurrentTasksPerWorker: 1,
      resourceLimits: { maxOldGenerationSizeMb: memoryMiB },
    });
  }
}
