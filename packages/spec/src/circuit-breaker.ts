// Leaves a failing server alone for a while: a thousand agents that retry would keep it down. Owns no requests.

export interface BreakerOptions {
  /** Failures in a row that open it. */
  failures: number;
  openMs: number;
  now(): number;
}

/**
 * Closed: everything passes. Open: nothing does, for `openMs`. Then one probe passes; its success closes the breaker, its
 * failure opens it again.
 */
export class CircuitBreaker {
  readonly #options: BreakerOptions;
  #failuresInARow = 0;
  #openUntil: number | undefined;
  #probing = false;
  #openedAt = 0;
  /** Times it opened after having been closed. */
  numOpenings = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  /** Milliseconds since it opened, probes in between included; 0 while it is closed. */
  get openSinceMs(): number {
    return this.#openUntil === undefined ? 0 : this.#options.now() - this.#openedAt;
  }

  /** Milliseconds until the next try makes sense; 0 = go now, and tell `succeeded` or `failed` (or `left`) afterwards. */
  waitMs(): number {
    if (this.#openUntil === undefined) return 0;
    const remaining = this.#openUntil - this.#options.now();
    if (remaining > 0) return remaining;
    // Looks again soon: the probe may succeed at any moment.
    if (this.#probing) return Math.min(1000, this.#options.openMs);
    this.#probing = true;
    return 0;
  }

  succeeded(): void {
    this.#failuresInARow = 0;
    this.#openUntil = undefined;
    this.#probing = false;
  }

  failed(): void {
    this.#failuresInARow += 1;
    const wasOpen = this.#openUntil !== undefined;
    if (!wasOpen && this.#failuresInARow < this.#options.failures) return;
    if (!wasOpen) {
      this.numOpenings += 1;
      this.#openedAt = this.#options.now();
    }
    this.#openUntil = this.#options.now() + this.#options.openMs;
    this.#probing = false;
  }

  /** The try ended without saying anything about the server (an abort of the caller). */
  left(): void {
    this.#probing = false;
  }
}
