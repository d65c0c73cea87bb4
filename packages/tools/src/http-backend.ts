// Client of a retrieval server: `POST /retrieve` and `POST /access`, the interface of the published offline server
// (WideSeek-R1). Owns connections, deadline, retries and the check of what the server says; ranks nothing itself.
import { setTimeout as timersSleep } from "node:timers/promises";
import { errorMessage, invalidInput, type SearchBackend, type SearchHit, WideSeekError } from "@wideseek/spec";
import { Agent, errors } from "undici";
import { z } from "zod";
import { pageSchema } from "./pages.ts";

export interface HttpSearchOptions {
  /** Where the server answers, e.g. `http://127.0.0.1:8000`; a path is kept as prefix. */
  baseUrl: string;
  /** Deadline of one lookup, its retries and waits included. Default 60. */
  timeoutSeconds?: number | undefined;
  /** Attempts of one lookup. Default 5. */
  maxAttempts?: number | undefined;
  /** Lookups on the wire at once; further ones wait for a free connection. Default 128. */
  maxConnections?: number | undefined;
  /** Largest response that is read, in bytes. Default 16 MiB. */
  maxResponseBytes?: number | undefined;
}

/** What happens between two attempts: a parameter, so that tests need not wait. */
export interface RetryTiming {
  /** Rejects when `signal` aborts. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}

const realTiming: RetryTiming = {
  sleep: (milliseconds, signal) => timersSleep(milliseconds, undefined, { signal }),
  random: Math.random,
};

const firstDelayMs = 500;
const maxDelayMs = 8000;

const optionsSchema = z.strictObject({
  baseUrl: z
    .url({ protocol: /^https?$/, error: "must be an http or https URL such as http://127.0.0.1:8000", abort: true })
    .refine((url) => {
      const { username, password, search, hash } = new URL(url);
      return username + password + search + hash === "";
    }, "must have no user, password, query or fragment"),
  timeoutSeconds: z.number().positive().max(86_400).default(60),
  maxAttempts: z.int().min(1).max(100).default(5),
  maxConnections: z.int().min(1).max(10_000).default(128),
  maxResponseBytes: z
    .int()
    .min(1)
    .default(16 * 2 ** 20),
});

// One query or URL a request, so one list in every answer.
const retrieveSchema = z.object({ result: z.tuple([z.array(pageSchema)]) });
const accessSchema = z.object({ result: z.tuple([z.object({ contents: z.string() }).nullable()]) });

/** What one attempt came to. */
type Exchange = { text: string } | { failure: string; transient: boolean; cause?: unknown };

/**
 * Every lookup rejects with the caller's abort reason, WS_TIMEOUT at the deadline, WS_CLOSED, or WS_IO when the server
 * cannot be reached or breaks the interface. Network errors, 429 and 5xx are tried again; nothing else is.
 */
export class HttpSearchBackend implements SearchBackend {
  readonly #options: z.output<typeof optionsSchema>;
  readonly #timing: RetryTiming;
  readonly #agent: Agent;
  readonly #inFlight = new Set<AbortController>();
  #closed: Promise<void> | undefined;

  /** Connects at the first lookup; `open` tries the server too. @throws WS_INVALID_ARGUMENT naming the option */
  constructor(options: HttpSearchOptions, timing: RetryTiming = realTiming) {
    const parsed = optionsSchema.safeParse(options);
    if (!parsed.success) throw invalidInput("search server", parsed.error);
    this.#options = parsed.data;
    this.#timing = timing;
    const { maxConnections, maxResponseBytes } = parsed.data;
    // Ours is the only deadline: undici's own would cut a longer one short.
    const timeouts = { headersTimeout: 0, bodyTimeout: 0 };
    this.#agent = new Agent({ connections: maxConnections, maxResponseSize: maxResponseBytes, ...timeouts });
  }

  /** Rejects unless a retrieval server answers: a wrong address is the caller's to mend, not the model's to read. */
  static async open(options: HttpSearchOptions, timing?: RetryTiming): Promise<HttpSearchBackend> {
    const backend = new HttpSearchBackend(options, timing);
    try {
      await backend.access("about:blank");
      return backend;
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    const body = { queries: [query], topk: count, return_scores: false };
    const { result } = await this.#lookUp("retrieve", body, retrieveSchema, signal);
    return result[0].slice(0, count);
  }

  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    const { result } = await this.#lookUp("access", { urls: [url] }, accessSchema, signal);
    return result[0]?.contents ?? null;
  }

  /** Rejects the lookups in flight with WS_CLOSED. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#agent.destroy();
    for (const controller of this.#inFlight) controller.abort(closedError());
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #lookUp<T>(
    path: "retrieve" | "access",
    body: object,
    schema: z.ZodType<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw closedError();
    const { baseUrl, timeoutSeconds } = this.#options;
    const url = new URL(path, baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`);
    // Whoever stops the lookup says why; that is what it then rejects with.
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(() => {
      const message = `${url.href}: no answer within ${timeoutSeconds} s; raise timeoutSeconds if the server is slow`;
      controller.abort(new WideSeekError("WS_TIMEOUT", message, { op: path, details: { timeoutSeconds } }));
    }, timeoutSeconds * 1000);
    this.#inFlight.add(controller);
    try {
      return parseReply(url, schema, await this.#fetch(url, JSON.stringify(body), controller.signal));
    } catch (error) {
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      this.#inFlight.delete(controller);
    }
  }

  async #fetch(url: URL, body: string, signal: AbortSignal): Promise<string> {
    const { maxAttempts } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      const exchange = await this.#exchange(url, body, signal);
      if ("text" in exchange) return exchange.text;
      const { failure, transient, cause } = exchange;
      if (!transient || attempt === maxAttempts) {
        throw ioError(url, `${failure} (attempt ${attempt} of ${maxAttempts})`, cause);
      }
      // Jitter spreads the many agents of a team that a busy server turned away at the same moment.
      const delay = Math.min(maxDelayMs, firstDelayMs * 2 ** (attempt - 1));
      await this.#timing.sleep(delay * (0.5 + this.#timing.random() / 2), signal);
    }
  }

  /** Rejects only when `signal` aborts. */
  async #exchange(url: URL, body: string, signal: AbortSignal): Promise<Exchange> {
    try {
      const response = await this.#agent.request({
        origin: url.origin,
        path: url.pathname,
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body,
        signal,
      });
      const { statusCode } = response;
      if (statusCode === 200) return { text: await response.body.text() };
      await response.body.dump();
      return { failure: `HTTP status ${statusCode}`, transient: statusCode === 429 || statusCode >= 500 };
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof errors.ResponseExceededMaxSizeError) {
        const failure = `the response is longer than maxResponseBytes, ${this.#options.maxResponseBytes}`;
        return { failure, transient: false, cause };
      }
      // A refused connection to a name with several addresses has a code, but no message.
      const { code = "network error" } = cause as { code?: string };
      return { failure: errorMessage(cause) || code, transient: true, cause };
    }
  }
}

function parseReply<T>(url: URL, schema: z.ZodType<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw ioError(url, `the response is not JSON: ${errorMessage(error)}`, error);
  }
  const reply = schema.safeParse(value);
  if (reply.success) return reply.data;
  const issue = reply.error.issues[0];
  throw ioError(
    url,
    `not the response of a retrieval server: ${issue?.path.join(".")}: ${issue?.message}`,
    reply.error,
  );
}

function ioError(url: URL, what: string, cause: unknown): WideSeekError {
  return new WideSeekError("WS_IO", `${url.href}: ${what}`, { op: url.pathname, details: { url: url.href }, cause });
}

function closedError(): WideSeekError {
  return new WideSeekError("WS_CLOSED", "the client of the search server is closed");
}
