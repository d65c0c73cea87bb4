// How slow simulated tools are, and how long there was nothing to compute. Owns no episodes.
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import { deriveSeed } from "../packages/train/src/index.ts";

export interface LatencyShape {
  medianSeconds: number;
  p99Seconds: number;
}

/** 99 % of a normal distribution lies below this many standard deviations. */
const NORMAL_P99 = 2.326347874;

/** Log-normal seconds, the same for the same key in every run. */
export function latencySeconds({ medianSeconds, p99Seconds }: LatencyShape, ...key: (string | number)[]): number {
  const bits = deriveSeed("latency", ...key);
  const first = (Number(bits >> 32n) + 1) / (2 ** 32 + 1);
  const second = Number(bits & 0xffffffffn) / 2 ** 32;
  const normal = Math.sqrt(-2 * Math.log(first)) * Math.cos(2 * Math.PI * second);
  return medianSeconds * Math.exp((normal * Math.log(p99Seconds / medianSeconds)) / NORMAL_P99);
}

/**
 * Time in which nothing could be computed: no request is with the engine, and the event loop sleeps, so no agent is
 * between two requests either. All of them wait for tools.
 */
export class WaitingClock {
  #numRequests = 0;
  #since: EventLoopUtilization = performance.eventLoopUtilization();
  #seconds = 0;

  /** Counts `request` as runnable work until it settles. */
  async watch<T>(request: () => Promise<T>): Promise<T> {
    if (this.#numRequests === 0) this.#add();
    this.#numRequests += 1;
    try {
      return await request();
    } finally {
      this.#numRequests -= 1;
      if (this.#numRequests === 0) this.#since = performance.eventLoopUtilization();
    }
  }

  /** So far. */
  get seconds(): number {
    if (this.#numRequests === 0) this.#add();
    return this.#seconds;
  }

  #add(): void {
    this.#seconds += performance.eventLoopUtilization(this.#since).idle / 1000;
    this.#since = performance.eventLoopUtilization();
  }
}
