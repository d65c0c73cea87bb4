// Whether training learns: for every seed the default run, and held-out scores of the shipped and the trained model by
// team and width, beside a model trained as a single agent by the same recipe. Long: it runs only when it is named, and
// goes on where it was stopped. Owns runs/learning/.
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRun, type EvaluationResult, loadConfig, type RunConfig } from "@wideseek/core";
import { lineChart, readRunDirectory, type SweepReport, sweepChart } from "@wideseek/eval";
import type { Benchmark } from "./context.ts";
import { type Measurement, repositoryRoot } from "./record.ts";

const CONFIG = "configs/embedded.yaml";
const SEEDS = [0, 1, 2];
const WIDTHS = [1, 2, 4, 8];

interface Curve {
  name: string;
  points: { x: number; y: number }[];
}

/** Each seed's shipped and trained model; the same held-out questions and evaluation seed for both. */
export const learningBenchmark: Benchmark = async function* ({ smoke, device }) {
  const onGpu = device.kind === "cuda";
  const base = join(repositoryRoot, "runs", `learning${onGpu ? "-gpu" : ""}${smoke ? "-smoke" : ""}`);
  for await (const measurement of measureLearning(base, smoke, onGpu)) {
    yield onGpu ? { ...measurement, name: `gpu.${measurement.name}` } : measurement;
  }
};

async function* measureLearning(base: string, smoke: boolean, onGpu: boolean): AsyncGenerator<Measurement> {
  const seeds = smoke ? [0] : SEEDS;
  const curves: Curve[] = [];
  const widthCurves: { name: string; sweep: SweepReport }[] = [];
  for (const seed of seeds) {
    const directory = join(base, `seed${seed}`);
    const config = await runConfig(seed, smoke, onGpu);
    const { model, seconds } = await train(config, join(directory, "train"));
    if (seconds !== undefined) yield figure("learning.seconds", "s", seconds, { config: CONFIG, seed });
    curves.push({ name: `seed ${seed}`, points: await learningCurve(join(directory, "train")) });
    const everyTeam: RunConfig = {
      ...config,
      eval: { ...config.eval, workflows: ["mas", "sa"], sweepSubagents: WIDTHS },
    };
    for (const stage of ["before", "after"] as const) {
      const modelDir = stage === "before" ? config.model.directory : model;
      for (const { name, report, sweeps } of await evaluateModel(everyTeam, modelDir, join(directory, stage))) {
        yield itemF1(`learning.seed${seed}.${name === "sa" ? "f1_single" : "f1"}_${stage}`, report);
        for (const sweep of sweeps) {
          for (const point of sweep.points) {
            yield itemF1(`learning.seed${seed}.width${point.value}_${stage}`, point.report);
          }
          widthCurves.push({ name: `${stage}, seed ${seed}`, sweep });
        }
      }
    }
  }
  if (!smoke && !onGpu) await writePlots(curves, widthCurves);
  for (const seed of seeds) yield* singleAgent(seed, base, smoke, onGpu);
}

/** The same recipe for one agent alone: what a team must beat. */
async function* singleAgent(seed: number, base: string, smoke: boolean, onGpu: boolean): AsyncGenerator<Measurement> {
  const config = await runConfig(seed, smoke, onGpu);
  const single: RunConfig = {
    ...config,
    agents: { ...config.agents, workflow: "sa" },
    eval: { ...config.eval, workflows: ["sa"] },
  };
  const directory = join(base, `seed${seed}`);
  const { model } = await train(single, join(directory, "train-single"));
  for (const { report } of await evaluateModel(single, model, join(directory, "after-single"))) {
    yield itemF1(`learning.seed${seed}.f1_single_trained`, report);
  }
}

async function writePlots(curves: Curve[], widthCurves: { name: string; sweep: SweepReport }[]): Promise<void> {
  const plots = join(repositoryRoot, "benchmarks/results");
  await mkdir(plots, { recursive: true });
  await writeFile(join(plots, "learning-width.svg"), sweepChart(widthCurves));
  const labels = { title: "Training reward (item F1 of rollouts)", xLabel: "step", yLabel: "mean item F1" };
  await writeFile(join(plots, "learning-curves.svg"), lineChart({ ...labels, yRange: [0, 1], series: curves }));
}

async function runConfig(seed: number, smoke: boolean, onGpu: boolean): Promise<RunConfig> {
  const file = join(repositoryRoot, CONFIG);
  const small = ["train.steps=1", "train.questionsPerStep=2", "train.groupSize=2", "eval.maxTasks=2", "eval.samples=1"];
  const overrides = [`run.seed=${seed}`, `eval.seed=${seed}`, ...(smoke ? small : [])];
  if (onGpu) overrides.push("engine.device=cuda");
  return await loadConfig({ file, overrides });
}

/** Trains, or goes on. A resumed run has no honest duration. */
async function train(config: RunConfig, directory: string): Promise<{ model: string; seconds: number | undefined }> {
  const isFresh = !existsSync(directory);
  const started = performance.now();
  await using run = await createRun({ config, directory, resume: true, progress: process.stderr });
  await run.train();
  const seconds = isFresh ? (performance.now() - started) / 1000 : undefined;
  return { model: join(directory, "model"), seconds };
}

async function evaluateModel(config: RunConfig, modelDir: string, directory: string): Promise<EvaluationResult[]> {
  const done = join(directory, "scores.json");
  if (existsSync(done)) return JSON.parse(await readFile(done, "utf8")) as EvaluationResult[];
  const evaluation: RunConfig = { ...config, model: { ...config.model, directory: modelDir } };
  await using run = await createRun({ config: evaluation, directory, resume: true, progress: process.stderr });
  const results = await run.evaluate();
  await writeFile(done, JSON.stringify(results));
  return results;
}

function itemF1(
  name: string,
  report: Pick<EvaluationResult["report"], "measures" | "numTasks" | "samples">,
): Measurement {
  const value = report.measures.itemF1?.avg.mean ?? Number.NaN;
  return figure(name, "1", value, {
    questions: report.numTasks,
    samples: report.samples,
    measure: "item F1 Avg@k",
  });
}

async function learningCurve(directory: string): Promise<{ x: number; y: number }[]> {
  const { metrics } = await readRunDirectory(directory, 1);
  return metrics.map((row) => ({ x: Number(row.step), y: Number(row["reward/score"]) }));
}

function figure(name: string, unit: string, value: number, params: Measurement["params"]): Measurement {
  return { name, unit, values: [value], params };
}
