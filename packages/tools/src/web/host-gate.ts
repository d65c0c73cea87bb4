// What one host is spared: how many requests run at once, how many begin in a second, and a rest when it fails. Owns no
// requests.
import { CircuitBreaker, type ClientTiming, Slots } from "@wideseek/spec";
import { LRUCache } from "lru-cache";

export interface HostLimits {
  maxConcurrentPerHost: number;
  requestsPerSecondPerHost: number;
  /** Failures in a row after which a host is left alone. */
  breakerFailures: number;
  breakerSeconds: number;
}

/** Hosts whose state is kept; those not visited for longest are forgotten. */
const maxHosts = 5000;

export class HostGate {
  readonly slots: Slots;
  readonly breaker: CircuitBreaker;
  readonly #intervalMs: number;
  readonly #timing: ClientTiming;
  #nextStart = 0;

  constructor(limits: HostLimits, timing: ClientTiming) {
    this.slots = new Slots(limits.maxConcurrentPerHost);
    this.breaker = new CircuitBreaker({
      failures: limits.breakerFailures,
      openMs: limits.breakerSeconds * 1000,
      now: () => timing.now(),
    });
    this.#intervalMs = 1000 / limits.requestsPerSecondPerHost;
    this.#timing = timing;
  }

  /** Milliseconds until the next request may begin; takes the place of that request. */
  takeStart(): number {
    const now = this.#timing.now();
    const start = Math.max(now, this.#nextStart);
    this.#nextStart = start + this.#intervalMs;
    return start - now;
  }

  /** The host asked for a pause: nobody begins before it is over. */
  pause(milliseconds: number): void {
    this.#nextStart = Math.max(this.#nextStart, this.#timing.now() + milliseconds);
  }
}

export class HostGates {
  readonly #gates: LRUCache<string, HostGate>;
  readonly #make: () => HostGate;

  constructor(limits: HostLimits, timing: ClientTiming) {
    this.#gates = new LRUCache({ max: maxHosts });
    this.#make = () => new HostGate(limits, timing);
  }

  of(host: string): HostGate {
    let gate = this.#gates.get(host);
    if (gate === undefined) {
      gate = this.#make();
      this.#gates.set(host, gate);
    }
    return gate;
  }
}
