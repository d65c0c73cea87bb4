// Requests to the web that outlast its failures: limits per host, retries, a rest for hosts that fail, deadlines. Owns
// when a request is made; what it means is the business of engines and readers.
import { type ClientTiming, errorMessage, realTiming, retryAfterMs, Slots, WideSeekError } from "@wideseek/spec";
import { type Dispatcher, errors } from "undici";
import { acceptEncoding, readBody } from "./body.ts";
import { type HostGate, HostGates, type HostLimits } from "./host-gate.ts";

export interface WebClientOptions extends HostLimits {
  /** Requests on the wire at once, to all hosts. */
  maxConcurrent: number;
  maxAttempts: number;
  /** Seconds of one attempt. */
  attemptSeconds: number;
  /** Seconds of one request, its retries and waits included. */
  deadlineSeconds: number;
  /** Of a body, after decompression. */
  maxBytes: number;
}

export interface WebRequest {
  url: URL;
  method?: "GET" | "POST";
  headers?: Readonly<Record<string, string>>;
  body?: string;
  /** Rejects a response before its body is read; what it throws is final. */
  check?: (response: WebHead) => void;
  /**
   * True for the one host that everything depends on: while it rests, requests wait. Pages have neighbours: a request to
   * a resting host fails at once.
   */
  waitsForHost?: boolean;
  /** Told in full, and kept out of every message. */
  secret?: string | undefined;
}

export interface WebHead {
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface WebResponse extends WebHead {
  body: Buffer;
}

/** What one attempt came to. */
type Attempt =
  | { response: WebResponse }
  | { failure: string; retryAfterMs?: number | undefined; countsAgainstHost: boolean };

const firstDelayMs = 500;
const maxDelayMs = 30_000;

export class WebClient {
  readonly #dispatcher: Dispatcher;
  readonly #options: WebClientOptions;
  readonly #timing: ClientTiming;
  readonly #gates: HostGates;
  readonly #slots: Slots;
  readonly #inFlight = new Set<AbortController>();
  #closed: Promise<void> | undefined;
  numRequests = 0;
  numRetries = 0;
  /** Requests that were given up or refused by a resting host. */
  numFailures = 0;

  /** @param dispatcher is closed with the client */
  constructor(dispatcher: Dispatcher, options: WebClientOptions, timing: ClientTiming = realTiming) {
    this.#dispatcher = dispatcher;
    this.#options = options;
    this.#timing = timing;
    this.#gates = new HostGates(options, timing);
    this.#slots = new Slots(options.maxConcurrent);
  }

  /**
   * Any final answer of the host, 404 included; network errors, 408, 429 and 5xx are tried again.
   * @throws the caller's abort reason, WS_TIMEOUT at the deadline, WS_CLOSED, WS_IO, and what `check` throws
   */
  async fetch(request: WebRequest, signal?: AbortSignal): Promise<WebResponse> {
    signal?.throwIfAborted();
    if (this.#closed !== undefined) throw closedError();
    const { deadlineSeconds } = this.#options;
    // Whoever stops the request says why; that is what it then rejects with.
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(() => {
      const message = `${place(request)}: no answer within ${deadlineSeconds} s`;
      controller.abort(new WideSeekError("WS_TIMEOUT", message, { op: "fetch", details: { deadlineSeconds } }));
    }, deadlineSeconds * 1000);
    this.#inFlight.add(controller);
    try {
      return await this.#persist(request, controller.signal);
    } catch (error) {
      this.numFailures += 1;
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      this.#inFlight.delete(controller);
    }
  }

  /** Rejects the requests in flight with WS_CLOSED. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#dispatcher.destroy();
    for (const controller of this.#inFlight) controller.abort(closedError());
    return this.#closed;
  }

  async #persist(request: WebRequest, signal: AbortSignal): Promise<WebResponse> {
    const { maxAttempts, deadlineSeconds } = this.#options;
    const deadline = this.#timing.now() + deadlineSeconds * 1000;
    const gate = this.#gates.of(request.url.host);
    for (let attempt = 1; ; attempt += 1) {
      const result = await gate.slots.run(() => this.#oneAttempt(request, gate, deadline, signal), signal);
      if ("response" in result) return result.response;
      const giveUp = (why: string): WideSeekError => ioError(request, `${result.failure} (${why})`);
      if (attempt === maxAttempts) throw giveUp(`attempt ${attempt} of ${maxAttempts}`);
      // Full jitter: the many agents of a team that were turned away at one moment do not come back at one moment.
      const longest = Math.min(maxDelayMs, firstDelayMs * 2 ** attempt);
      const delay = (result.retryAfterMs ?? 0) + longest * this.#timing.random();
      if (this.#timing.now() + delay >= deadline) throw giveUp(`no time for attempt ${attempt + 1}`);
      this.numRetries += 1;
      await this.#timing.sleep(delay, signal);
    }
  }

  async #oneAttempt(request: WebRequest, gate: HostGate, deadline: number, signal: AbortSignal): Promise<Attempt> {
    await this.#turn(request, gate, deadline, signal);
    try {
      return await this.#slots.run(() => this.#attempt(request, gate, signal), signal);
    } catch (error) {
      // A probe that was never sent must not stand in the way of the next one.
      gate.breaker.left();
      throw error;
    }
  }

  async #attempt(request: WebRequest, gate: HostGate, signal: AbortSignal): Promise<Attempt> {
    const { attemptSeconds } = this.#options;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), attemptSeconds * 1000);
    this.numRequests += 1;
    try {
      const result = await this.#exchange(request, AbortSignal.any([signal, timeout.signal]));
      if ("failure" in result && result.countsAgainstHost) gate.breaker.failed();
      else gate.breaker.succeeded();
      if ("failure" in result && result.retryAfterMs !== undefined) gate.pause(result.retryAfterMs);
      return result;
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const failure = timeout.signal.aborted ? `no answer within ${attemptSeconds} s` : networkFailure(cause, request);
      if (typeof failure !== "string") throw failure;
      gate.breaker.failed();
      return { failure, countsAgainstHost: true };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Until the host's limits let the next request through. */
  async #turn(request: WebRequest, gate: HostGate, deadline: number, signal: AbortSignal): Promise<void> {
    const now = (): number => this.#timing.now();
    for (;;) {
      const wait = gate.breaker.waitMs();
      if (wait === 0) break;
      if (request.waitsForHost !== true || now() + wait >= deadline) {
        throw ioError(request, "has failed so often that it is left alone for a while");
      }
      await this.#timing.sleep(wait, signal);
    }
    try {
      const wait = gate.takeStart();
      if (now() + wait >= deadline) throw ioError(request, "has more requests waiting than its limits let through");
      if (wait > 0) await this.#timing.sleep(wait, signal);
    } catch (error) {
      gate.breaker.left();
      throw error;
    }
  }

  async #exchange(request: WebRequest, signal: AbortSignal): Promise<Attempt> {
    const { url, method = "GET", headers, body = null } = request;
    const response = await this.#dispatcher.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers: { "accept-encoding": acceptEncoding, ...headers },
      body,
      signal,
    });
    const head: WebHead = { status: response.statusCode, headers: response.headers };
    try {
      if (head.status === 408 || head.status === 429 || head.status >= 500) {
        const wait = retryAfterMs(head.headers["retry-after"], Date.now());
        const said = await this.#excerpt(response, request);
        // A host that says when to come back is alive.
        const countsAgainstHost = head.status !== 429;
        return { failure: `HTTP status ${head.status}${said}`, retryAfterMs: wait, countsAgainstHost };
      }
      request.check?.(head);
      const encoding = String(head.headers["content-encoding"] ?? "");
      const bytes = await readBody(response.body, encoding, this.#options.maxBytes);
      return { response: { ...head, body: bytes } };
    } finally {
      response.body.on("error", () => {});
      response.body.destroy();
    }
  }

  /** What a service says about its failure; pages in many languages say nothing that helps. */
  async #excerpt(response: Dispatcher.ResponseData, { secret }: WebRequest): Promise<string> {
    if (secret === undefined) return "";
    try {
      const encoding = String(response.headers["content-encoding"] ?? "");
      return `: ${excerpt(await readBody(response.body, encoding, 65_536), secret)}`;
    } catch {
      return "";
    }
  }
}

/** The beginning of what a service said, without the key that it may repeat. */
export function excerpt(body: Buffer, secret: string): string {
  const text = body.toString("utf8").replaceAll(/\s+/g, " ").trim();
  return (secret === "" ? text : text.replaceAll(secret, "[API key]")).slice(0, 300);
}

/** Text for a failure that may pass, or the error for one that will not. */
function networkFailure(cause: unknown, request: WebRequest): string | Error {
  // Connecting to several addresses at once fails with all of their errors.
  const reasons = cause instanceof AggregateError ? [cause, ...cause.errors] : [cause];
  const own = reasons.find((reason) => reason instanceof WideSeekError);
  if (own !== undefined) {
    const { code, message, op = "fetch" } = own;
    return new WideSeekError(code, message.startsWith(place(request)) ? message : `${place(request)}: ${message}`, {
      op,
    });
  }
  if (cause instanceof errors.InvalidArgumentError) return ioError(request, "not a request that can be sent");
  const { code = "network error" } = cause as { code?: string };
  // No such name: asking again will not make one.
  if (code === "ENOTFOUND") return ioError(request, "no such host");
  if (/CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS/.test(code))
    return ioError(request, `its certificate is not valid (${code})`);
  const text = errorMessage(cause) || code;
  return request.secret ? text.replaceAll(request.secret, "[API key]") : text;
}

/** Services are named by host: their addresses may carry what was asked for. */
function place({ url }: WebRequest): string {
  return url.host;
}

function ioError(request: WebRequest, what: string): WideSeekError {
  return new WideSeekError("WS_IO", `${place(request)}: ${what}`, { op: "fetch", details: { host: place(request) } });
}

function closedError(): WideSeekError {
  return new WideSeekError("WS_CLOSED", "the client of the web is closed", { op: "fetch" });
}
