// Why agents of an episode have to stop early: the caller's abort, the time limit, a broken engine. Owns one signal
// for all of them and the rule which errors are data.
import { type ErrorCode, WideSeekError } from "@wideseek/spec";

/** After these no request of any agent can succeed, so they end the episode and not only the turn. */
const brokenEngine: ReadonlySet<ErrorCode> = new Set([
  "WS_CLOSED",
  "WS_DEVICE_LOST",
  "WS_INVALID_STATE",
  "WS_INTERNAL",
]);

/** Ends the work of an agent that waits for paused ones. */
export class PauseRequest extends Error {
  override readonly name: string = "PauseRequest";
}

export class EpisodeControl implements Disposable {
  readonly signal: AbortSignal;
  /** Agents stop at their next turns once it aborts. */
  readonly pause: AbortSignal | undefined;
  readonly #controller: AbortController = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #callerSignal: AbortSignal | undefined;
  #timedOut = false;
  #failure: { error: unknown } | undefined;

  constructor(episodeSeconds: number, callerSignal: AbortSignal | undefined, pause?: AbortSignal) {
    this.pause = pause;
    this.#callerSignal = callerSignal;
    this.signal = callerSignal ? AbortSignal.any([callerSignal, this.#controller.signal]) : this.#controller.signal;
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.#controller.abort(
        new WideSeekError("WS_TIMEOUT", `the episode's time limit of ${episodeSeconds} seconds is over`),
      );
    }, episodeSeconds * 1000);
  }

  /** Ends all agents of the episode; the first error is the one that the caller sees. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#controller.abort(error);
  }

  /** How an agent stops because of `error` from a turn. @throws what the whole episode must end with */
  stopReason(error: unknown): "timeout" | "error" {
    if (this.#callerSignal?.aborted) throw this.#callerSignal.reason;
    if (this.#failure === undefined && error instanceof WideSeekError && brokenEngine.has(error.code)) this.fail(error);
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#timedOut ? "timeout" : "error";
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
