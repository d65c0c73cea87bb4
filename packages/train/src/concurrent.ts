// Bounded parallel map that never leaves work behind. Owns no work of its own.

/**
 * Runs `fn` on every item, at most `limit` at a time, results in the order of `items`. After the first rejection no
 * further item starts and `signal` tells the running ones to stop; it rejects once all of them have ended.
 */
export async function mapConcurrent<T, R>(
  items: readonly T[],
  limit: number,
  fn: (item: T, signal: AbortSignal) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  const failure = new AbortController();
  const combined = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const results: R[] = new Array(items.length);
  const pending = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of pending) {
      combined.throwIfAborted();
      results[index] = await fn(item, combined);
    }
  };
  const workers = Array.from({ length: Math.min(limit, items.length) }, () =>
    worker().catch((error: unknown) => {
      // The first error is the cause; what the abort makes of the others only repeats it.
      if (!failure.signal.aborted) failure.abort(error);
    }),
  );
  await Promise.all(workers);
  if (failure.signal.aborted) throw failure.signal.reason;
  return results;
}
