// Clock, waiting and chance of the client as a parameter, so that tests need not wait. Owns no policy.
import { setTimeout as timersSleep } from "node:timers/promises";

export interface ClientTiming {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Rejects when `signal` aborts. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}

export const realTiming: ClientTiming = {
  now: () => performance.now(),
  sleep: (milliseconds, signal) => timersSleep(milliseconds, undefined, { signal }),
  random: Math.random,
};

const firstDelayMs = 500;
const maxDelayMs = 30_000;

/** Wait before attempt `attempt` + 1: doubling with jitter, and never less than what the server asked for. */
export function retryDelayMs(attempt: number, retryAfterMs: number | undefined, timing: ClientTiming): number {
  const delay = Math.min(maxDelayMs, firstDelayMs * 2 ** (attempt - 1)) * (0.5 + timing.random() / 2);
  // Jitter on top: everybody was told the same time.
  return retryAfterMs === undefined ? delay : Math.max(delay, retryAfterMs + firstDelayMs * timing.random());
}

/** `Retry-After` in milliseconds: seconds or an HTTP date (RFC 9110, 10.2.3); undefined when it says nothing sensible. */
export function retryAfterMs(header: string | readonly string[] | undefined, nowMs: number): number | undefined {
  const text = (typeof header === "string" ? header : header?.[0])?.trim();
  if (text === undefined || text === "") return undefined;
  const milliseconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds) : undefined;
}
