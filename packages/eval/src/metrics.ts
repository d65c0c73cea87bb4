// Avg@k, Max@k and Pass@k over tasks x samples, with bootstrap confidence intervals. Owns no episodes and no files.
import type { RewardBreakdown, Task } from "@wideseek/spec";

/** A mean over tasks with a percentile bootstrap interval (tasks resampled, samples of a task kept together). */
export interface Estimate {
  mean: number;
  low: number;
  high: number;
  /** Tasks that had at least one judged sample. */
  numTasks: number;
}

/** One measure over k samples a task (WideSearch: avg_n, max_n; Pass@n is max_n of success). */
export interface AtK {
  /** Mean over the samples of a task, then over tasks. */
  avg: Estimate;
  /** Best sample of a task, then mean over tasks. */
  max: Estimate;
  /** Share of tasks with a sample that reached 1. */
  pass: Estimate;
}

export const tableMeasures = [
  "itemF1",
  "itemPrecision",
  "itemRecall",
  "rowF1",
  "rowPrecision",
  "rowRecall",
  "success",
] as const;
export const qaMeasures = ["qaScore", "qaExactMatch", "qaTokenF1"] as const;
export type TableMeasure = (typeof tableMeasures)[number];
export type QaMeasure = (typeof qaMeasures)[number];
export type Measure = TableMeasure | QaMeasure;

export interface BootstrapSettings {
  numResamples: number;
  /** e.g. 0.95 */
  confidence: number;
  seed: number;
}

export const defaultBootstrap: BootstrapSettings = { numResamples: 1000, confidence: 0.95, seed: 0 };

/** Uniform numbers in [0, 1) from a 32-bit counter (mulberry32); enough to pick bootstrap indices reproducibly. */
function uniformGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Linear interpolation between order statistics; `sorted` ascending and not empty. */
function quantile(sorted: readonly number[], share: number): number {
  const position = share * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/** Mean of one value a task with its interval. NaN everywhere when `values` is empty: nothing measured is not 0. */
export function estimateMean(values: readonly number[], settings: BootstrapSettings = defaultBootstrap): Estimate {
  const numTasks = values.length;
  if (numTasks === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN, numTasks };
  const uniform = uniformGenerator(settings.seed);
  const means = Array.from({ length: settings.numResamples }, () => {
    let sum = 0;
    for (let draw = 0; draw < numTasks; draw++) sum += values[Math.floor(uniform() * numTasks)] ?? 0;
    return sum / numTasks;
  }).sort((a, b) => a - b);
  const tail = (1 - settings.confidence) / 2;
  return { mean: mean(values), low: quantile(means, tail), high: quantile(means, 1 - tail), numTasks };
}

/** `samplesByTask`: the judged values of each task; a task without any is left out of all three estimates. */
export function atK(
  samplesByTask: readonly (readonly number[])[],
  settings: BootstrapSettings = defaultBootstrap,
): AtK {
  const judged = samplesByTask.filter((samples) => samples.length > 0);
  return {
    avg: estimateMean(judged.map(mean), settings),
    max: estimateMean(
      judged.map((samples) => Math.max(...samples)),
      settings,
    ),
    pass: estimateMean(
      judged.map((samples) => (samples.some((value) => value >= 1) ? 1 : 0)),
      settings,
    ),
  };
}

/** The value of `measure` in one judged reward, or null where the measure does not apply to the kind of task. */
export function measureValue(reward: RewardBreakdown, kind: Task["kind"], measure: Measure): number | null {
  if (kind === "table") {
    if (!(tableMeasures as readonly string[]).includes(measure)) return null;
    // An answer without a readable table has no score object: it earned 0 on every measure.
    return reward.table?.[measure as TableMeasure] ?? 0;
  }
  if (measure === "qaScore") return reward.score;
  if (measure === "qaExactMatch") return reward.qa?.exactMatch ?? 0;
  if (measure === "qaTokenF1") return reward.qa?.tokenF1 ?? 0;
  return null;
}

export interface ScoredTask {
  kind: Task["kind"];
  /** All samples; those with `judged: false` are skipped. */
  rewards: readonly RewardBreakdown[];
}

/** Every measure that applies to at least one task. */
export function aggregateMeasures(
  tasks: readonly ScoredTask[],
  settings: BootstrapSettings = defaultBootstrap,
): Partial<Record<Measure, AtK>> {
  const measures: Partial<Record<Measure, AtK>> = {};
  for (const measure of [...tableMeasures, ...qaMeasures]) {
    const kind = (tableMeasures as readonly string[]).includes(measure) ? "table" : "qa";
    const matching = tasks.filter((task) => task.kind === kind);
    if (matching.length === 0) continue;
    const samplesByTask = matching.map((task) =>
      task.rewards.filter((reward) => reward.judged).map((reward) => measureValue(reward, kind, measure) ?? 0),
    );
    measures[measure] = atK(samplesByTask, settings);
  }
  return measures;
}
