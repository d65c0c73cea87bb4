// Runs against a first one on the tasks that both have. Owns which scores are compared and how runs are read for it.
import { readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";
import { mean } from "./bootstrap.ts";
import type { EvaluationReport, TaskResult } from "./evaluate.ts";
import { type AtK, type Measure, measuredValues, taskStatistic } from "./metrics.ts";
import { holm, type PairedResult, pairedTest } from "./paired-test.ts";
import { listEvaluations } from "./run-directory.ts";

export interface RunScores {
  name: string;
  report: EvaluationReport;
}

/** One score of one run beside the same of the first run. */
export interface ComparedScore extends PairedResult {
  run: string;
  measure: Measure;
  statistic: keyof AtK;
  /** Means over the tasks that both have, judged. */
  baseline: number;
  value: number;
  /** `pValue` after Holm's adjustment over the runs that are compared with the first. */
  adjustedPValue: number;
  numTasks: number;
}

export interface Comparison {
  baseline: string;
  /** Samples a task of every run; best-of-k scores are only compared where they are equal. */
  samples: Record<string, number>;
  /** Tasks of the first run that another lacks, and the other way round. */
  numUnpaired: Record<string, number>;
  /** Episodes of every run that no judged score here has. */
  numUnjudged: Record<string, number>;
  scores: ComparedScore[];
}

/** In the order of the published tables. */
const compared: readonly (readonly [Measure, keyof AtK])[] = [
  ["itemF1", "avg"],
  ["itemF1", "max"],
  ["rowF1", "avg"],
  ["rowF1", "max"],
  ["success", "avg"],
  ["success", "pass"],
  ["qaScore", "avg"],
  ["qaScore", "pass"],
  ["qaExactMatch", "avg"],
  ["qaTokenF1", "avg"],
];

/** Every run against the first. @throws WS_INVALID_ARGUMENT for fewer than two runs, or runs without a common task */
export function compareRuns(runs: readonly RunScores[]): Comparison {
  const [first, ...others] = runs;
  if (first === undefined || others.length === 0) throw invalid("name at least two runs");
  const twin = runs.find(({ name }, index) => runs.findIndex((run) => run.name === name) < index);
  if (twin) throw invalid(`two runs are called ${twin.name}; name their folders otherwise`);
  const scores = compared.flatMap(([measure, statistic]) => {
    const found = others.flatMap((other) => compareScore(first, other, measure, statistic));
    const adjusted = holm(found.map(({ pValue }) => pValue));
    return found.map((score, index) => ({ ...score, adjustedPValue: adjusted[index] ?? Number.NaN }));
  });
  const lonely = others.find(({ name }) => !scores.some(({ run }) => run === name));
  if (lonely) throw invalid(`${first.name} and ${lonely.name} have no judged task in common`);
  const known = new Set(ids(first));
  return {
    baseline: first.name,
    samples: Object.fromEntries(runs.map(({ name, report }) => [name, report.samples])),
    numUnpaired: Object.fromEntries(
      others.map((other) => {
        const theirs = new Set(ids(other));
        const numMissing = [...known].filter((id) => !theirs.has(id)).length;
        return [other.name, numMissing + [...theirs].filter((id) => !known.has(id)).length];
      }),
    ),
    numUnjudged: Object.fromEntries(runs.map(({ name, report }) => [name, report.numUnjudged])),
    scores,
  };
}

const ids = ({ report }: RunScores): string[] => report.tasks.map((task) => task.instanceId);

function compareScore(
  first: RunScores,
  other: RunScores,
  measure: Measure,
  statistic: keyof AtK,
): Omit<ComparedScore, "adjustedPValue">[] {
  if (statistic !== "avg" && first.report.samples !== other.report.samples) return [];
  const values = taskValues(first, measure, statistic);
  const pairs = [...taskValues(other, measure, statistic)].flatMap(([id, value]) => {
    const baseline = values.get(id);
    return baseline === undefined ? [] : [{ baseline, value }];
  });
  if (pairs.length === 0) return [];
  return [
    {
      run: other.name,
      measure,
      statistic,
      baseline: mean(pairs.map((pair) => pair.baseline)),
      value: mean(pairs.map((pair) => pair.value)),
      numTasks: pairs.length,
      ...pairedTest(pairs.map((pair) => pair.value - pair.baseline)),
    },
  ];
}

function taskValues({ report }: RunScores, measure: Measure, statistic: keyof AtK): Map<string, number> {
  const valuesOf = ({ kind, episodes }: TaskResult): number[] =>
    measuredValues({ kind, rewards: episodes.map(({ reward }) => reward) }, measure);
  return new Map(
    report.tasks.flatMap((task): [string, number][] => {
      const samples = valuesOf(task);
      return samples.length === 0 ? [] : [[task.instanceId, taskStatistic(statistic, samples)]];
    }),
  );
}

/**
 * Reads run folders, or single reports (`RUN/eval/NAME.json`), for `compareRuns`: one list for every name of an
 * evaluation that all of them have. Where each has exactly one, the names may differ.
 * @throws WS_IO, WS_CORRUPT_FILE, WS_INVALID_ARGUMENT when there is nothing to compare
 */
export async function readComparable(paths: readonly string[]): Promise<{ evaluation: string; runs: RunScores[] }[]> {
  const found = await Promise.all(paths.map(async (path) => ({ path, files: await reportFiles(path) })));
  const empty = found.find(({ files }) => files.size === 0);
  if (empty) throw invalid(`${empty.path}: no finished evaluation there; run \`wideseek eval\` to its end first`);
  const names = [...(found[0]?.files.keys() ?? [])].filter((name) => found.every(({ files }) => files.has(name)));
  const load = async (pick: (files: ReadonlyMap<string, string>) => string): Promise<RunScores[]> =>
    await Promise.all(
      found.map(async ({ path, files }) => ({ name: runName(path), report: await readReport(pick(files)) })),
    );
  if (names.length > 0) {
    return await Promise.all(
      names.map(async (evaluation) => ({ evaluation, runs: await load((files) => files.get(evaluation) as string) })),
    );
  }
  if (found.every(({ files }) => files.size === 1)) {
    const evaluation = [...new Set(found.flatMap(({ files }) => [...files.keys()]))].join(", ");
    return [{ evaluation, runs: await load((files) => [...files.values()][0] as string) }];
  }
  const have = found.map(({ path, files }) => `${path} has ${[...files.keys()].join(", ")}`);
  throw invalid(
    `no evaluation that all runs have: ${have.join("; ")}; name the reports themselves, RUN/eval/NAME.json`,
  );
}

/** Name of the evaluation to the file of its report. */
async function reportFiles(path: string): Promise<Map<string, string>> {
  const facts = await stat(path).catch((error: unknown) => {
    const message = `compare: ${path}: no run folder and no report of an evaluation (${errorMessage(error)})`;
    throw new WideSeekError("WS_IO", message, { op: "compare", cause: error });
  });
  if (facts.isFile()) return new Map([[basename(path, ".json"), path]]);
  return new Map((await listEvaluations(path)).map((name) => [name, join(path, "eval", `${name}.json`)]));
}

/** A report is named after its run and itself: two of one run may be compared. */
function runName(path: string): string {
  if (!path.endsWith(".json")) return basename(resolve(path));
  return `${basename(resolve(path, "../.."))}/${basename(path, ".json")}`;
}

async function readReport(file: string): Promise<EvaluationReport> {
  const text = await atBoundary("WS_IO", "compare", () => readFile(file, "utf8"));
  let report: Partial<EvaluationReport> | null;
  try {
    report = JSON.parse(text) as Partial<EvaluationReport> | null;
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${file}: ${errorMessage(error)}`, { op: "compare", cause: error });
  }
  const isReport =
    typeof report?.samples === "number" &&
    Array.isArray(report.tasks) &&
    report.tasks.every((task) => typeof task?.instanceId === "string" && Array.isArray(task.episodes));
  if (isReport) return report as EvaluationReport;
  throw new WideSeekError("WS_CORRUPT_FILE", `${file}: not a report of an evaluation`, { op: "compare" });
}

function invalid(problem: string): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", `compare: ${problem}`, { op: "compare" });
}
