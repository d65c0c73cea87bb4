// A model behind an OpenAI-compatible server (SGLang, vLLM, any provider). Owns connections, deadlines, retries and the
// key; the formats are in openai-wire.ts.
import {
  type ChatModel,
  type ChatReply,
  type ChatRequest,
  type ChatUsage,
  CircuitBreaker,
  type ClientTiming,
  type CompletionSettings,
  errorMessage,
  invalidInput,
  realTiming,
  retryAfterMs,
  retryDelayMs,
  Slots,
  WideSeekError,
} from "@wideseek/spec";
import { Agent, errors } from "undici";
import { ZodError } from "zod";
import { chatBody, completionBody, type JsonBody, readChatReply, readCompletionReply } from "./openai-wire.ts";
import { type ChatServerOptions, type ChatServerOptionsInput, chatServerOptionsSchema } from "./options.ts";

export interface ChatServerParts {
  timing?: ClientTiming | undefined;
  /** Where the key is looked up; default: the environment of the process. */
  environment?: Readonly<Record<string, string | undefined>> | undefined;
}

export interface ChatServerUsage extends ChatUsage {
  /** Times the server failed so often that it was left alone for a while. */
  numBreakerOpenings: number;
}

/** Connects at the first request. @throws WS_INVALID_ARGUMENT naming the option, or the variable that holds no key */
export function openaiChatModel(options: ChatServerOptionsInput, parts: ChatServerParts = {}): OpenAiChatModel {
  const parsed = chatServerOptionsSchema.safeParse(options);
  if (!parsed.success) throw invalidInput("model server", parsed.error);
  return new OpenAiChatModel(parsed.data, parts);
}

/** Longest reply that is read, in bytes. */
const maxResponseBytes = 32 * 2 ** 20;
/** Characters of a server's own words in an error. */
const shownCharacters = 300;

/** What one attempt came to. A `refusal` blames the request, a `failure` the server or the way to it. */
type Attempt<T> =
  | { reply: T }
  | { refusal: string; status: number }
  | { failure: string; status?: number; retryAfterMs?: number | undefined; transient: boolean; cause?: unknown };

export class OpenAiChatModel implements ChatModel {
  readonly name: string;
  readonly #options: ChatServerOptions;
  readonly #timing: ClientTiming;
  readonly #key: string | undefined;
  readonly #agent: Agent;
  readonly #slots: Slots;
  readonly #breaker: CircuitBreaker;
  readonly #inFlight = new Set<AbortController>();
  /** Undefined until the server took or refused a schema. */
  #hasJsonSchema: boolean | undefined;
  #closed: Promise<void> | undefined;
  readonly #usage: Omit<ChatUsage, "numCacheHits"> = {
    numCalls: 0,
    numFailedCalls: 0,
    numRetries: 0,
    numPromptTokens: 0,
    numCompletionTokens: 0,
    seconds: 0,
  };

  constructor(options: ChatServerOptions, { timing = realTiming, environment = process.env }: ChatServerParts) {
    this.#options = options;
    this.#timing = timing;
    this.name = options.model;
    this.#key = readKey(options.apiKeyEnv, environment);
    this.#slots = new Slots(options.maxConcurrent);
    this.#breaker = new CircuitBreaker({
      failures: options.breakerFailures,
      openMs: options.breakerSeconds * 1000,
      now: () => timing.now(),
    });
    if (options.jsonSchema === "never") this.#hasJsonSchema = false;
    // Ours are the only deadlines: undici's own would cut a slow model short.
    const timeouts = { headersTimeout: 0, bodyTimeout: 0 };
    this.#agent = new Agent({ connections: options.maxConcurrent, maxResponseSize: maxResponseBytes, ...timeouts });
  }

  get usage(): ChatServerUsage {
    return { ...this.#usage, numCacheHits: 0, numBreakerOpenings: this.#breaker.numOpenings };
  }

  async chat(request: ChatRequest): Promise<ChatReply> {
    return await this.#call(request, async (signal) => {
      const read = (value: unknown): ChatReply => readChatReply(value, request);
      const send = (withSchema: boolean): Promise<Attempt<ChatReply>> =>
        this.#sendPatiently("chat/completions", chatBody(request, withSchema), read, signal);
      if (request.jsonSchema === undefined || this.#hasJsonSchema === false) return await send(false);
      const held = await send(true);
      if ("reply" in held) this.#hasJsonSchema = true;
      if (!("refusal" in held) || this.#hasJsonSchema) return held;
      const free = await send(false);
      // Only then it was the schema that the server refused.
      if ("reply" in free) this.#hasJsonSchema = false;
      return free;
    });
  }

  async complete(prompt: string, settings: CompletionSettings): Promise<ChatReply> {
    const read = (value: unknown): ChatReply => readCompletionReply(value, prompt, settings);
    return await this.#call(settings, (signal) =>
      this.#sendPatiently("completions", completionBody(prompt, settings), read, signal),
    );
  }

  /** Rejects the requests in flight with WS_CLOSED. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#agent.destroy();
    for (const controller of this.#inFlight) controller.abort(this.#closedError());
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call(
    settings: CompletionSettings,
    send: (signal: AbortSignal) => Promise<Attempt<ChatReply>>,
  ): Promise<ChatReply> {
    settings.signal?.throwIfAborted();
    if (this.#closed !== undefined) throw this.#closedError();
    const usage = this.#usage;
    const start = performance.now();
    usage.numCalls += 1;
    // Whoever stops the request says why; that is what it then rejects with.
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(settings.signal?.reason);
    settings.signal?.addEventListener("abort", onAbort, { once: true });
    this.#inFlight.add(controller);
    try {
      const outcome = await this.#slots.run(() => send(controller.signal), controller.signal);
      if (!("reply" in outcome)) throw this.#error(outcome);
      usage.numPromptTokens += outcome.reply.numPromptTokens;
      usage.numCompletionTokens += outcome.reply.numCompletionTokens;
      return outcome.reply;
    } catch (error) {
      usage.numFailedCalls += 1;
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      usage.seconds += (performance.now() - start) / 1000;
      settings.signal?.removeEventListener("abort", onAbort);
      this.#inFlight.delete(controller);
    }
  }

  /** Retries what may pass by itself. Rejects when `signal` aborts, and with WS_TIMEOUT at the deadline. */
  async #sendPatiently<T>(
    path: string,
    body: JsonBody,
    read: (value: unknown) => T,
    signal: AbortSignal,
  ): Promise<Attempt<T>> {
    const { maxAttempts, deadlineSeconds } = this.#options;
    const deadline = this.#timing.now() + deadlineSeconds * 1000;
    const text = JSON.stringify(this.#wholeBody(body));
    let last: Attempt<T> | undefined;
    for (let attempt = 1; ; ) {
      const isProbe = await this.#waitForServer(deadline, signal, last);
      const result = await this.#attempt(path, text, read, signal, deadline);
      if (!("failure" in result) || !result.transient) return result;
      last = result;
      // A probe of a dead server is everybody's business: it costs the request that made it nothing.
      if (!isProbe) attempt += 1;
      if (attempt > maxAttempts)
        return { ...result, failure: `${result.failure} (attempt ${maxAttempts} of ${maxAttempts})` };
      this.#usage.numRetries += 1;
      const delay = retryDelayMs(attempt - 1 || 1, result.retryAfterMs, this.#timing);
      if (this.#timing.now() + delay >= deadline) return result;
      await this.#timing.sleep(delay, signal);
    }
  }

  /** Until the breaker lets a try through; true when that try is the probe of a failing server. */
  async #waitForServer<T>(deadline: number, signal: AbortSignal, last: Attempt<T> | undefined): Promise<boolean> {
    for (;;) {
      const openSinceMs = this.#breaker.openSinceMs;
      const wait = this.#breaker.waitMs();
      if (wait === 0) return openSinceMs > 0;
      // Everybody has waited as long as one request may: those that come later need not wait again.
      if (openSinceMs > this.#options.deadlineSeconds * 1000 || this.#timing.now() + wait > deadline) {
        const why = last !== undefined && "failure" in last ? `: ${last.failure}` : "";
        throw this.#ioError(`the server has been failing for ${Math.round(openSinceMs / 1000)} s${why}`);
      }
      await this.#timing.sleep(wait, signal);
    }
  }

  /** Rejects only when `signal` aborts. */
  async #attempt<T>(
    path: string,
    text: string,
    read: (value: unknown) => T,
    signal: AbortSignal,
    deadline: number,
  ): Promise<Attempt<T>> {
    const seconds = Math.min(this.#options.attemptSeconds, Math.max(0.001, (deadline - this.#timing.now()) / 1000));
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), seconds * 1000);
    try {
      const result = await this.#exchange(path, text, read, AbortSignal.any([signal, timeout.signal]));
      if (!("failure" in result) || result.status === 429) this.#breaker.succeeded();
      else this.#breaker.failed();
      return result;
    } catch (cause) {
      if (signal.aborted) {
        this.#breaker.left();
        throw signal.reason;
      }
      this.#breaker.failed();
      if (timeout.signal.aborted) {
        return {
          failure: `no answer within ${seconds.toFixed(1)} s; raise attemptSeconds if the model is slow`,
          transient: true,
        };
      }
      if (cause instanceof errors.ResponseExceededMaxSizeError) {
        return { failure: `the reply is longer than ${maxResponseBytes} bytes`, transient: false };
      }
      // A refused connection to a name with several addresses has a code, but no message.
      const { code = "network error" } = cause as { code?: string };
      return { failure: this.#redact(errorMessage(cause) || code), transient: true };
    } finally {
      clearTimeout(timer);
    }
  }

  async #exchange<T>(
    path: string,
    text: string,
    read: (value: unknown) => T,
    signal: AbortSignal,
  ): Promise<Attempt<T>> {
    const url = this.#url(path);
    const response = await this.#agent.request({
      origin: url.origin,
      path: url.pathname,
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        ...(this.#key !== undefined && { authorization: `Bearer ${this.#key}` }),
      },
      body: text,
      signal,
    });
    // A server may repeat the key in what it says; nothing behind this line may hold it.
    const said = this.#redact(await response.body.text());
    const { statusCode: status } = response;
    if (status === 200) {
      try {
        return { reply: read(JSON.parse(said)) };
      } catch (error) {
        if (!(error instanceof SyntaxError || error instanceof ZodError)) throw error;
        return { failure: `the response is no reply of a model: ${describeGarbage(error)}`, transient: true };
      }
    }
    const words = `HTTP status ${status}: ${said.replaceAll(/\s+/g, " ").slice(0, shownCharacters)}`;
    if (status === 400 || status === 413 || status === 422) return { refusal: words, status };
    const transient = status === 429 || status === 408 || status >= 500;
    const wait = retryAfterMs(response.headers["retry-after"], Date.now());
    return { failure: words, status, transient, retryAfterMs: wait };
  }

  #wholeBody(body: JsonBody): JsonBody {
    const { model, maxTokens, extraBody } = this.#options;
    const whole: JsonBody = { model, ...(maxTokens !== null && { max_tokens: maxTokens }), ...body, ...extraBody };
    return Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== null));
  }

  #url(path: string): URL {
    const { baseUrl } = this.#options;
    return new URL(path, baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`);
  }

  #redact(text: string): string {
    // Local servers are given words such as "EMPTY", which no reply may lose.
    return this.#key === undefined || this.#key.length < 8 ? text : text.replaceAll(this.#key, "[API key]");
  }

  #error<T>(outcome: Exclude<Attempt<T>, { reply: T }>): WideSeekError {
    if ("failure" in outcome) {
      const hint = outcome.status === 401 || outcome.status === 403 ? this.#keyHint() : "";
      return this.#ioError(outcome.failure + hint, outcome.status);
    }
    const reason = /context|too long|too large|maximum.*(length|tokens)/i.test(outcome.refusal) ? "context" : "request";
    const message = `${this.#where()} refuses the request: ${outcome.refusal}`;
    return new WideSeekError("WS_INVALID_ARGUMENT", message, {
      op: "chat",
      details: { reason, status: outcome.status },
    });
  }

  #keyHint(): string {
    const { apiKeyEnv } = this.#options;
    if (apiKeyEnv === null) return "; set apiKeyEnv to the name of the environment variable that holds the key";
    return `; is the key in ${apiKeyEnv} right?`;
  }

  #ioError(what: string, status?: number): WideSeekError {
    return new WideSeekError("WS_IO", `${this.#where()}: ${what}`, { op: "chat", details: { status } });
  }

  #closedError(): WideSeekError {
    return new WideSeekError("WS_CLOSED", `the client of ${this.#where()} is closed`, { op: "chat" });
  }

  #where(): string {
    return `${this.#options.baseUrl} (${this.name})`;
  }
}

function readKey(name: string | null, environment: Readonly<Record<string, string | undefined>>): string | undefined {
  if (name === null) return undefined;
  const key = environment[name]?.trim();
  if (key === undefined || key === "") {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `apiKeyEnv: the environment variable ${name} is not set; put the API key into it`,
      { op: "chat", details: { apiKeyEnv: name } },
    );
  }
  // A line break would end the header, and undici's error would then show the key.
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `apiKeyEnv: what ${name} holds is no API key: it has spaces or characters outside of ASCII`,
      { op: "chat", details: { apiKeyEnv: name } },
    );
  }
  return key;
}

function describeGarbage(error: SyntaxError | ZodError): string {
  if (error instanceof SyntaxError) return "it is not JSON";
  const issue = error.issues[0];
  return `${issue?.path.join(".")}: ${issue?.message}`;
}
