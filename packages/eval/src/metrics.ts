// Avg@k, Max@k, Min@k and Pass@k over tasks x samples, with confidence intervals. Owns no episodes and no files.
import type { RewardBreakdown, Task } from "@wideseek/spec";
import { type BootstrapSettings, bootstrap, defaultBootstrap, type Estimate, estimateMean, mean } from "./bootstrap.ts";

/** One measure over k samples a task (WideSearch: avg_n, max_n, min_n; Pass@n is max_n of success). */
export interface AtK {
  /** Mean over the samples of a task, then over tasks. */
  avg: Estimate;
  /** Best sample of a task, then mean over tasks. */
  max: Estimate;
  /** Worst sample of a task, then mean over tasks. */
  min: Estimate;
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

/** `samplesByTask`: the measured values of each task; a task without any is left out of all estimates. */
export function atK(
  samplesByTask: readonly (readonly number[])[],
  settings: BootstrapSettings = defaultBootstrap,
): AtK {
  const judged = samplesByTask.filter((samples) => samples.length > 0);
  return mapStatistics((statistic) => estimateMean(judged.map(statistic), settings));
}

/**
 * The same over several sets of tasks, every set counting the same however many tasks it has. The interval resamples
 * tasks of all sets together, without strata; a set that a resample does not hold is not in its mean.
 */
export function macroAtK(
  sets: readonly (readonly (readonly number[])[])[],
  settings: BootstrapSettings = defaultBootstrap,
): AtK {
  const judged = sets.map((tasks) => tasks.filter((samples) => samples.length > 0)).filter((tasks) => tasks.length > 0);
  return mapStatistics((statistic) => {
    const values = judged.flatMap((tasks, set) => tasks.map((samples) => ({ set, value: statistic(samples) })));
    return bootstrap(
      values.length,
      (pick) => {
        const sums = new Float64Array(judged.length);
        const counts = new Float64Array(judged.length);
        for (let draw = 0; draw < values.length; draw++) {
          const { set, value } = values[pick(draw)] as (typeof values)[number];
          sums[set] = (sums[set] ?? 0) + value;
          counts[set] = (counts[set] ?? 0) + 1;
        }
        const means = judged.flatMap((_, set) =>
          (counts[set] ?? 0) > 0 ? [(sums[set] ?? 0) / (counts[set] ?? 1)] : [],
        );
        return mean(means);
      },
      settings,
    );
  });
}

/** What k samples of one task come to. */
const statistics: Readonly<Record<keyof AtK, (samples: readonly number[]) => number>> = {
  avg: mean,
  max: (samples) => Math.max(...samples),
  min: (samples) => Math.min(...samples),
  pass: (samples) => (samples.some((value) => value >= 1) ? 1 : 0),
};

export function taskStatistic(statistic: keyof AtK, samples: readonly number[]): number {
  return statistics[statistic](samples);
}

function mapStatistics(estimate: (statistic: (samples: readonly number[]) => number) => Estimate): AtK {
  const { avg, max, min, pass } = statistics;
  return { avg: estimate(avg), max: estimate(max), min: estimate(min), pass: estimate(pass) };
}

/** The value of `measure` in one reward, or null where it does not apply to the kind of task. */
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
  /** All samples; those with `judged: false` have only the measures that need no judge. */
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
    measures[measure] = withBounds(matching, measure, (fill) =>
      atK(
        matching.map((task) => measuredValues(task, measure, fill)),
        settings,
      ),
    );
  }
  return measures;
}

/** Means over sets of tasks, every set counting the same. */
export function macroMeasures(
  sets: readonly (readonly ScoredTask[])[],
  settings: BootstrapSettings = defaultBootstrap,
): Partial<Record<Measure, AtK>> {
  const measures: Partial<Record<Measure, AtK>> = {};
  for (const measure of [...tableMeasures, ...qaMeasures]) {
    const kind = (tableMeasures as readonly string[]).includes(measure) ? "table" : "qa";
    const matching = sets.map((tasks) => tasks.filter((task) => task.kind === kind)).filter((set) => set.length > 0);
    if (matching.length === 0) continue;
    measures[measure] = withBounds(matching.flat(), measure, (fill) =>
      macroAtK(
        matching.map((tasks) => tasks.map((task) => measuredValues(task, measure, fill))),
        settings,
      ),
    );
  }
  return measures;
}

/**
 * `estimate()` of what is measured, and between which bounds it would be with a judgement of every sample: `estimate(fill)`
 * takes that value for those without.
 */
function withBounds(tasks: readonly ScoredTask[], measure: Measure, estimate: (fill?: number) => AtK): AtK {
  const known = estimate();
  if (tasks.every(({ kind, rewards }) => rewards.every((reward) => isMeasured(reward, kind, measure)))) return known;
  const [wrong, right] = [estimate(0), estimate(1)];
  const bounded = (statistic: keyof AtK): Estimate => {
    return { ...known[statistic], bounds: { low: wrong[statistic].mean, high: right[statistic].mean } };
  };
  return { avg: bounded("avg"), max: bounded("max"), min: bounded("min"), pass: bounded("pass") };
}

/** True unless the measure waits for a judgement. */
function isMeasured(reward: RewardBreakdown, kind: Task["kind"], measure: Measure): boolean {
  const needsJudge = kind === "table" || measure === "qaScore" || reward.qa === undefined;
  return reward.judged || !needsJudge;
}

/** The values of a task's samples, without those that wait for a judgement or with `fill` in their place. */
export function measuredValues({ kind, rewards }: ScoredTask, measure: Measure, fill?: number): number[] {
  return rewards.flatMap((reward) => {
    if (!isMeasured(reward, kind, measure)) return fill ?? [];
    return measureValue(reward, kind, measure) ?? [];
  });
}
