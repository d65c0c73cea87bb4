// Text of pages, made in worker threads: a page of megabytes would hold the event loop for seconds, and a hostile one for
// ever. Owns the threads and their limits.
import { errorMessage, WideSeekError } from "@wideseek/spec";
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
  #closed = false;

  constructor({ threads = 2, timeoutSeconds = 20, memoryMiB = 1024 }: PageExtractorOptions = {}) {
    this.#options = { threads, timeoutSeconds, memoryMiB };
  }

  /** Markdown of a page. @throws WS_IO when it cannot be made out in time, the caller's abort reason */
  async extract(html: string, address: string, signal?: AbortSignal): Promise<string> {
    signal?.throwIfAborted();
    if (this.#closed) throw new WideSeekError("WS_CLOSED", "the reader of pages is closed", { op: "extract" });
    const { timeoutSeconds } = this.#options;
    const controller = new AbortController();
    const onAbort = (): void => controller.abort();
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(onAbort, timeoutSeconds * 1000);
    try {
      this.#pool ??= this.#start();
      return (await this.#pool.run({ html, address }, { signal: controller.signal })) as string;
    } catch (cause) {
      signal?.throwIfAborted();
      const why = controller.signal.aborted
        ? `its text could not be made out within ${timeoutSeconds} s`
        : `its text could not be made out: ${errorMessage(cause).slice(0, 200)}`;
      throw new WideSeekError("WS_IO", `${address}: ${why}`, { op: "extract", cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.destroy();
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
