// Whether training learns: for every seed the default run, and held-out scores of the shipped and the trained model by
// team and width. Long: it runs only when it is named, and goes on where it was stopped. Owns runs/learning/.
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRun, type EvaluationResult, loadConfig, type RunConfig } from "@wideseek/core";
import { lineChart, readRunDirectory, type SweepReport, sweepChart } from "@wideseek/eval";
import type { Benchmark } from "./context.ts";
import { type Measurement, repositoryRoot } from "./record.ts";

const SEEDS = [0, 1, 2];
const WIDTHS = [1, 2, 4, 8];

interface Scores {
  multi: EvaluationResult["report"];
  single: EvaluationResult["report"];
  widths: SweepReport;
}

/** Each seed's shipped and trained model; the same held-out questions and evaluation seed for both. */
export const learningBenchmark: Benchmark = async function* ({ smoke }) {
  const base = join(repositoryRoot, "runs", smoke ? "learning-smoke" : "learning");
  const curves: { name: string; points: { x: number; y: number }[] }[] = [];
  const widthCurves: { name: string; sweep: SweepReport }[] = [];
  for (const seed of smoke ? [0] : SEEDS) {
    const config = await runConfig(seed, smoke);
    const directory = join(base, `seed${seed}`);
    const train = join(directory, "train");
    const started = performance.now();
    const isFresh = !existsSync(train);
    await using run = await createRun({ config, directory: train, resume: true, progress: process.stderr });
    await run.train();
    const params = { config: "configs/embedded.yaml", seed, questions: config.data.source };
    // A resumed run has no honest duration.
    if (isFresh) yield figure("learning.seconds", "s", (performance.now() - started) / 1000, params);
    curves.push({ name: `seed ${seed}`, points: await learningCurve(train) });
    for (const stage of ["before", "after"] as const) {
      const modelDir = stage === "before" ? config.model.directory : join(train, "model");
      const scores = await evaluateModel(config, modelDir, join(directory, stage));
      yield* stageFigures(seed, stage, scores);
      widthCurves.push({ name: `${stage}, seed ${seed}`, sweep: scores.widths });
    }
  }
  const plots = join(repositoryRoot, "benchmarks/results");
  if (smoke) return;
  await mkdir(plots, { recursive: true });
  await writeFile(join(plots, "learning-width.svg"), sweepChart(widthCurves));
  const labels = { title: "Training reward (item F1 of rollouts)", xLabel: "step", yLabel: "mean item F1" };
  await writeFile(join(plots, "learning-curves.svg"), lineChart({ ...labels, yRange: [0, 1], series: curves }));
};

async function runConfig(seed: number, smoke: boolean): Promise<RunConfig> {
  const file = join(repositoryRoot, "configs/embedded.yaml");
  const small = ["train.steps=1", "train.questionsPerStep=2", "train.groupSize=2", "eval.maxTasks=2", "eval.samples=1"];
  return await loadConfig({ file, overrides: [`run.seed=${seed}`, `eval.seed=${seed}`, ...(smoke ? small : [])] });
}

async function evaluateModel(config: RunConfig, modelDir: string, directory: string): Promise<Scores> {
  const done = join(directory, "scores.json");
  if (existsSync(done)) return JSON.parse(await readFile(done, "utf8")) as Scores;
  const evaluation: RunConfig = {
    ...config,
    model: { ...config.model, directory: modelDir },
    eval: { ...config.eval, workflows: ["mas", "sa"], sweepSubagents: WIDTHS },
  };
  await using run = await createRun({ config: evaluation, directory, resume: true, progress: process.stderr });
  const [multi, single] = await run.evaluate();
  const widths = multi?.sweeps[0];
  if (!multi || !single || !widths) throw new Error("the evaluation gave no scores");
  const scores: Scores = { multi: multi.report, single: single.report, widths };
  await writeFile(done, JSON.stringify(scores));
  return scores;
}

function* stageFigures(seed: number, stage: "before" | "after", scores: Scores): Generator<Measurement> {
  const f1 = (report: Scores["multi"]): number => report.measures.itemF1?.avg.mean ?? Number.NaN;
  const params = { questions: scores.multi.tasks.length, samples: scores.multi.samples, measure: "item F1 Avg@k" };
  yield figure(`learning.seed${seed}.f1_${stage}`, "1", f1(scores.multi), params);
  yield figure(`learning.seed${seed}.f1_single_${stage}`, "1", f1(scores.single), params);
  for (const { value, report } of scores.widths.points) {
    yield figure(`learning.seed${seed}.width${value}_${stage}`, "1", f1(report), params);
  }
}

async function learningCurve(directory: string): Promise<{ x: number; y: number }[]> {
  const { metrics } = await readRunDirectory(directory, 1);
  return metrics.map((row) => ({ x: Number(row.step), y: Number(row["reward/score"]) }));
}

function figure(name: string, unit: string, value: number, params: Measurement["params"]): Measurement {
  return { name, unit, values: [value], params };
}
