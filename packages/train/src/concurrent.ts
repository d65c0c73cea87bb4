// Bounded parallel maps that never leave work behind. Own no work of their own.
import { Slots } from "@wideseek/spec";

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
  return await mapStages(items, limit, fn, async (result) => result, signal);
}

/**
 * The same in two stages, each at most `limit` at a time: an item's second stage begins as soon as its first has ended,
 * and does not keep the next item from its own first.
 */
export async function mapStages<T, M, R>(
  items: readonly T[],
  limit: number,
  first: (item: T, signal: AbortSignal) => Promise<M>,
  second: (result: M, signal: AbortSignal, item: T) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  const failure = new AbortController();
  const combined = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  // The first error is the cause; what the abort makes of the others only repeats it.
  const fail = (error: unknown): void => {
    if (!failure.signal.aborted) failure.abort(error);
  };
  const results: R[] = new Array(items.length);
  const slots = new Slots(limit);
  const seconds: Promise<void>[] = [];
  const pending = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of pending) {
      combined.throwIfAborted();
      const result = await first(item, combined);
      const work = async (): Promise<void> => {
        results[index] = await second(result, combined, item);
      };
      seconds.push(slots.run(work, combined).catch(fail));
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, () => worker().catch(fail)));
  await Promise.all(seconds);
  if (failure.signal.aborted) throw failure.signal.reason;
  return results;
}
