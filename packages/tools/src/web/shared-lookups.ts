// Equal lookups at one moment are one: the samples of a question ask the same. Owns who waits for what.

interface Flight {
  result: Promise<unknown>;
  controller: AbortController;
  numWaiting: number;
}

export class SharedLookups {
  readonly #flights = new Map<string, Flight>();

  /** Joins the lookup of this key that is under way, or starts one. It ends early only when all who wait for it left. */
  async run<T>(key: string, start: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    let flight = this.#flights.get(key);
    if (flight === undefined) {
      const controller = new AbortController();
      const result = start(controller.signal).finally(() => {
        if (this.#flights.get(key)?.controller === controller) this.#flights.delete(key);
      });
      // Whoever waits sees the failure; nobody may be left.
      result.catch(() => {});
      flight = { result, controller, numWaiting: 0 };
      this.#flights.set(key, flight);
    }
    const joined = flight;
    joined.numWaiting += 1;
    let onAbort = (): void => {};
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
    });
    try {
      return (await Promise.race([joined.result, aborted])) as T;
    } finally {
      signal?.removeEventListener("abort", onAbort);
      joined.numWaiting -= 1;
      if (joined.numWaiting === 0 && this.#flights.get(key) === joined) {
        this.#flights.delete(key);
        joined.controller.abort(signal?.reason);
      }
    }
  }
}
