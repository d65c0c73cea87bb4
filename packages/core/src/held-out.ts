// Held-out evaluation of a run: which questions, which team, which limits. Owns no scores and no files.
import path from "node:path";
import { type Limits, runEpisode } from "@wideseek/agents";
import type { RunConfig } from "@wideseek/config";
import { type EvaluationReport, type SweepParameter, type SweepReport, sweep } from "@wideseek/eval";
import { type Judge, type Task, type Toolset, WideSeekError } from "@wideseek/spec";
import type { ProgressStream } from "@wideseek/train";
import type { ChatPolicy } from "./chat-policy.ts";
import { type EvaluationOutcome, type EvaluationRequest, runEvaluation, writeJson } from "./evaluation-run.ts";

export type Workflow = RunConfig["agents"]["workflow"];

export interface HeldOutParts {
  config: RunConfig;
  policy: ChatPolicy;
  tools: Toolset;
  judge: Judge;
  tasks: readonly Task[];
  leftOut: readonly string[];
  dataPaths: readonly string[];
  /** Run folder: reports and some traces go to eval/. */
  directory: string;
  /** Says which weights are evaluated, for finished episodes of a killed evaluation. */
  modelLabel: string;
  progress: ProgressStream;
}

export interface HeldOutRequest {
  name: string;
  step: number;
  workflow: Workflow;
  /** False: the model is still learning, so a repeated evaluation begins anew. */
  resumable: boolean;
}

/**
 * Runs every held-out question `eval.samples` times with one kind of team and writes eval/NAME.json with some traces.
 * @throws WS_INVALID_ARGUMENT when no episode could work: its score of 0 would say nothing about the model
 */
export async function evaluateHeldOut(
  parts: HeldOutParts,
  { name, step, workflow, resumable }: HeldOutRequest,
  signal: AbortSignal,
): Promise<EvaluationReport> {
  const keep = resumable ? "report" : "once";
  const { report, lastError } = await run(parts, { name, step, workflow, keep }, parts.config.agents.limits, signal);
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

/** The limits that a value of a swept parameter stands for. */
const sweptLimits: Readonly<Record<SweepParameter, (value: number, limits: Limits) => Partial<Limits>>> = {
  maxSubagents: (value) => ({ maxSubagents: value }),
  // The limit of the whole episode must not cut what the width of a turn allows.
  maxSubagentsPerCall: (value, limits) => ({
    maxSubagentsPerCall: value,
    maxSubagents: Math.max(limits.maxSubagents, value * limits.leadTurns),
  }),
  maxTurns: (value) => ({ leadTurns: value, subagentTurns: value, singleTurns: value }),
};

/** One evaluation for every value of a limit; writes eval/NAME.sweep.json. */
export async function sweepHeldOut(
  parts: HeldOutParts,
  workflow: Workflow,
  sweepOver: { parameter: SweepParameter; values: readonly number[] },
  signal: AbortSignal,
): Promise<SweepReport> {
  const { limits } = parts.config.agents;
  const { parameter } = sweepOver;
  const report = await sweep({
    ...sweepOver,
    evaluate: async (value) => {
      const name = `${workflow}-${parameter}-${value}`;
      const swept = { ...limits, ...sweptLimits[parameter](value, limits) };
      return (await run(parts, { name, step: 0, workflow, keep: "points" }, swept, signal)).report;
    },
  });
  await writeJson(path.join(parts.directory, "eval", `${workflow}-${parameter}.sweep.json`), report);
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

/** First part of the official file names: of a trained model, RUN/model, the name of its run. */
export function modelName(directory: string): string {
  const { base, dir } = path.parse(path.resolve(directory));
  return base === "model" && path.basename(dir) !== "" ? path.basename(dir) : base;
}

async function run(
  { config, policy, tools, judge, tasks, leftOut, dataPaths, directory, modelLabel, progress }: HeldOutParts,
  { workflow, name, ...request }: Pick<EvaluationRequest, "name" | "step" | "keep"> & { workflow: Workflow },
  limits: Limits,
  signal: AbortSignal,
): Promise<EvaluationOutcome> {
  const { eval: settings, rewards, agents, model } = config;
  const { promptLanguage } = agents;
  const sampling = { temperature: settings.temperature, topP: 1, topK: 0, minP: 0 };
  return await runEvaluation({
    ...request,
    directory,
    name,
    label: `${name}, ${modelLabel}`,
    model: modelName(model.directory),
    tasks: settings.maxTasks === 0 ? tasks : tasks.slice(0, settings.maxTasks),
    leftOut,
    dataPaths,
    settings,
    rewards,
    judge,
    decode: (tokenIds) => policy.chat.decode(tokenIds),
    runEpisode: (task, sample, seed) => {
      const team = { workflow, limits, sampling, prompts: agents.promptStyle, promptLanguage };
      return runEpisode({ policy, chat: policy.chat, tools, task, sample, seed, signal, ...team });
    },
    progress,
    signal,
  });
}
