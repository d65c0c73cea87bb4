// Seconds spent in the phases of a step. Owns no other metric.

export class PhaseClock {
  readonly #start: number = performance.now();
  readonly #seconds: Map<string, number> = new Map();

  async time<T>(phase: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.#seconds.set(phase, this.seconds(phase) + (performance.now() - start) / 1000);
    }
  }

  seconds(phase: string): number {
    return this.#seconds.get(phase) ?? 0;
  }

  /** Seconds of each phase and of the whole step so far. */
  metrics(): Record<string, number> {
    const phases = [...this.#seconds].map(([phase, seconds]) => [`time/${phase}`, seconds] as const);
    return { ...Object.fromEntries(phases), "time/step": (performance.now() - this.#start) / 1000 };
  }
}
