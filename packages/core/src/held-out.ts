// Held-out evaluation of a run: which questions, which team, what is kept. Owns no scores.
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { type Limits, runEpisode } from "@wideseek/agents";
import type { RunConfig } from "@wideseek/config";
import { type EvaluationReport, evaluate, type SweepReport, sweep } from "@wideseek/eval";
import { RuleJudge, scoreEpisode } from "@wideseek/rewards";
import { type Task, type Toolset, WideSeekError } from "@wideseek/spec";
import { episodeTrace, Progress, type ProgressStream, writeAtomic } from "@wideseek/train";
import type { ChatPolicy } from "./chat-policy.ts";

export type Workflow = RunConfig["agents"]["workflow"];

export interface HeldOutParts {
  config: RunConfig;
  policy: ChatPolicy;
  tools: Toolset;
  tasks: readonly Task[];
  /** Run folder: reports and some traces go to eval/. */
  directory: string;
  progress: ProgressStream;
}

/** Episodes whose traces an evaluation keeps; the first samples of the first questions. */
const NUM_TRACES = 8;

/**
 * Runs every held-out question `eval.samples` times with one kind of team and writes eval/NAME.json with some traces.
 * @throws WS_INVALID_ARGUMENT when no episode could work: its score of 0 would say nothing about the model
 */
export async function evaluateHeldOut(
  parts: HeldOutParts,
  { name, step, workflow }: { name: string; step: number; workflow: Workflow },
  signal: AbortSignal,
): Promise<EvaluationReport> {
  const { config, policy, directory } = parts;
  const traces: object[] = [];
  let lastError = "";
  const report = await runEvaluation(parts, name, workflow, config.agents.limits, signal, async (episode, reward) => {
    lastError = episode.trajectories[0]?.errors.at(-1) ?? lastError;
    if (episode.sample > 0 || traces.length >= NUM_TRACES) return;
    traces.push(await episodeTrace({ step, episode, reward }, { decode: (ids) => policy.chat.decode(ids) }));
  });
  await writeJson(path.join(directory, "eval", `${name}.json`), report);
  const lines = traces.map((trace) => `${JSON.stringify(trace)}\n`);
  await writeAtomic(path.join(directory, "eval", `${name}.episodes.jsonl`), lines.join(""));
  if (report.tasks.every((task) => task.episodes.every(neverWorked))) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `evaluate ${name}: all ${report.numEpisodes} episodes failed, so there is no score; ` +
        `the last one says: ${lastError}`,
      { op: "evaluate", details: { name, numEpisodes: report.numEpisodes } },
    );
  }
  return report;
}

/** The lead or single agent ended by an error of the engine or the tools, or before its first turn. */
function neverWorked({ stopReason, numTurns }: EvaluationReport["tasks"][number]["episodes"][number]): boolean {
  return stopReason === "error" || numTurns === 0;
}

/** One evaluation for every value of a limit; writes eval/NAME.sweep.json. */
export async function sweepHeldOut(
  parts: HeldOutParts,
  name: string,
  workflow: Workflow,
  sweepOver: { parameter: "maxSubagents" | "maxTurns"; values: readonly number[] },
  signal: AbortSignal,
): Promise<SweepReport> {
  const { limits } = parts.config.agents;
  const report = await sweep({
    ...sweepOver,
    evaluate: async (value) => {
      const changed =
        sweepOver.parameter === "maxSubagents"
          ? { maxSubagents: value }
          : { leadTurns: value, subagentTurns: value, singleTurns: value };
      const label = `${name} ${sweepOver.parameter} ${value}`;
      return await runEvaluation(parts, label, workflow, { ...limits, ...changed }, signal);
    },
  });
  await writeJson(path.join(parts.directory, "eval", `${name}-${sweepOver.parameter}.sweep.json`), report);
  return report;
}

/** Scalars of a report under TensorBoard tags. */
export function heldOutMetrics(report: EvaluationReport, workflow: Workflow): Record<string, number> {
  const metrics: Record<string, number> = {};
  for (const [measure, atK] of Object.entries(report.measures)) {
    for (const [statistic, estimate] of Object.entries(atK)) {
      if (Number.isFinite(estimate.mean)) metrics[`held_out_${workflow}/${measure}_${statistic}`] = estimate.mean;
    }
  }
  return metrics;
}

async function runEvaluation(
  { config, policy, tools, tasks, progress }: HeldOutParts,
  label: string,
  workflow: Workflow,
  limits: Limits,
  signal: AbortSignal,
  onEpisode?: Parameters<typeof evaluate>[0]["onEpisode"],
): Promise<EvaluationReport> {
  const settings = config.eval;
  const chosen = settings.maxTasks === 0 ? tasks : tasks.slice(0, settings.maxTasks);
  const bar = new Progress(progress, `evaluate ${label}`, chosen.length * settings.samples);
  const judge = new RuleJudge();
  const sampling = { temperature: settings.temperature, topP: 1, topK: 0, minP: 0 };
  return await evaluate({
    tasks: chosen,
    samples: settings.samples,
    concurrency: settings.concurrency,
    seed: BigInt(settings.seed),
    label,
    signal,
    onEpisode,
    runEpisode: (task, sample, seed) => {
      const prompts = config.agents.promptStyle;
      const team = { workflow, limits, sampling, prompts };
      return runEpisode({ policy, chat: policy.chat, tools, task, sample, seed, signal, ...team });
    },
    score: (episode) => scoreEpisode(episode, { ...config.rewards, judge, signal }),
    onProgress: ({ numFinished, meanScore }) => {
      bar.update(numFinished, Number.isNaN(meanScore) ? "" : `score ${meanScore.toFixed(3)}`);
    },
  });
}

async function writeJson(file: string, value: unknown): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeAtomic(file, `${JSON.stringify(value)}\n`);
}
