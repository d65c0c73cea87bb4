// Confidence intervals by resampling tasks, and the random numbers for it. Owns no measures.

/** A mean over tasks with a percentile bootstrap interval (tasks resampled, samples of a task kept together). */
export interface Estimate {
  mean: number;
  low: number;
  high: number;
  /** Tasks that had at least one measured sample. */
  numTasks: number;
  /**
   * Where samples have no judgement: the mean over all with each of those at 0, and at 1. What is not judged is no random
   * part, since exact matches need no judge, so `mean` alone would say too much.
   */
  bounds?: { low: number; high: number } | undefined;
}

export interface BootstrapSettings {
  numResamples: number;
  /** e.g. 0.95 */
  confidence: number;
  seed: number;
}

export const defaultBootstrap: BootstrapSettings = { numResamples: 1000, confidence: 0.95, seed: 0 };

/** Uniform numbers in [0, 1) from a 32-bit counter (mulberry32); enough to pick bootstrap indices reproducibly. */
export function uniformGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Linear interpolation between order statistics; `sorted` ascending and not empty. */
function quantile(sorted: ArrayLike<number>, share: number): number {
  const position = share * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/**
 * A statistic of `numTasks` tasks with its percentile interval. `statistic` reads task `pick(draw)` at every draw from 0;
 * NaN everywhere without tasks: nothing measured is not 0.
 */
export function bootstrap(
  numTasks: number,
  statistic: (pick: (draw: number) => number) => number,
  settings: BootstrapSettings = defaultBootstrap,
): Estimate {
  if (numTasks === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN, numTasks };
  const uniform = uniformGenerator(settings.seed);
  const pick = (): number => Math.floor(uniform() * numTasks);
  const resampled = Float64Array.from({ length: settings.numResamples }, () => statistic(pick)).sort();
  const tail = (1 - settings.confidence) / 2;
  return {
    mean: statistic((draw) => draw),
    low: quantile(resampled, tail),
    high: quantile(resampled, 1 - tail),
    numTasks,
  };
}

/** Mean of one value a task with its interval. */
export function estimateMean(values: readonly number[], settings: BootstrapSettings = defaultBootstrap): Estimate {
  return bootstrap(
    values.length,
    (pick) => {
      let sum = 0;
      for (let draw = 0; draw < values.length; draw++) sum += values[pick(draw)] ?? 0;
      return sum / values.length;
    },
    settings,
  );
}
