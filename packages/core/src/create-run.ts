// Joins all packages to a run: config -> data, tools, model -> training, cold start or evaluation. Owns no algorithm.
import path from "node:path";
import { runPausableEpisode } from "@wideseek/agents";
import { formatConfig, hashConfig, type RunConfig } from "@wideseek/config";
import { TaskOrder } from "@wideseek/data";
import { type EvaluationReport, readRunDirectory, type SweepReport, writeHtmlReport } from "@wideseek/eval";
import { scoreEpisode } from "@wideseek/rewards";
import { type Task, type Toolset, WideSeekError } from "@wideseek/spec";
import { searchTools } from "@wideseek/tools";
import { coldStart, Progress, type ProgressStream, Run, RunLock, trainLoop, writeAtomic } from "@wideseek/train";
import { RunModels } from "./chat-models.ts";
import type { ChatPolicy } from "./chat-policy.ts";
import { engineMetrics } from "./engine-metrics.ts";
import { copyDrills, expertTraces } from "./expert-traces.ts";
import { evaluateHeldOut, type HeldOutParts, heldOutMetrics, sweepHeldOut } from "./held-out.ts";
import { loadPolicy } from "./load-policy.ts";
import { modelFingerprint, saveModel } from "./model-folder.ts";
import { createModel } from "./new-model.ts";
import { toolMetrics } from "./open-pages.ts";
import { writeRunCounts } from "./run-counts.ts";
import { openRunData, type RunData } from "./run-data.ts";
import {
  checkEvaluationSettings,
  checkRunCommand,
  checkRunFolder,
  checkRunSettings,
  writeRunCommand,
} from "./run-folder.ts";
import { writeSweepFigures } from "./sweep-figures.ts";

export interface CreateRunOptions {
  config: RunConfig;
  /** Folder of the results. */
  directory: string;
  /** False: `directory` must be new or empty. True: continues from its newest whole checkpoint, or begins. */
  resume?: boolean;
  /** Where progress is shown. */
  progress: ProgressStream;
  /** Stops with a checkpoint. */
  signal?: AbortSignal | undefined;
}

export interface RunResult {
  directory: string;
  /** Steps done. */
  steps: number;
  /** False after a stop. */
  finished: boolean;
}

export interface EvaluationResult {
  name: string;
  report: EvaluationReport;
  /** One for every limit that was swept over. */
  sweeps: readonly SweepReport[];
  /** Files of the curves and tables of the sweeps. */
  figures: readonly string[];
  /** True when the judge was asked, in any of the evaluations of this call, and never gave a judgement. */
  judgeFailed: boolean;
}

/**
 * Locks the folder until the run is disposed, opens data and tools of a config; no result is written before a model is
 * loaded too.
 * @throws WS_INVALID_ARGUMENT when `directory` holds something else, or a run and `resume` is false, WS_INVALID_STATE when another process
 *   writes there, WS_IO and what the data is wrong with
 */
export async function createRun(options: CreateRunOptions): Promise<ConfiguredRun> {
  const { config, directory, resume = false } = options;
  await checkRunFolder(directory, resume);
  const lock = await RunLock.take(directory);
  try {
    // Another process may have begun and ended a run between the first look and the lock.
    await checkRunFolder(directory, resume);
    return new ConfiguredRun(options, await openRunData(config.data, config.tools), lock);
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw error;
  }
}

export class ConfiguredRun implements AsyncDisposable {
  readonly directory: string;
  readonly #options: CreateRunOptions;
  readonly #config: RunConfig;
  readonly #data: RunData;
  readonly #lock: RunLock;
  readonly #tools: Toolset;
  readonly #signal: AbortSignal;

  constructor(options: CreateRunOptions, data: RunData, lock: RunLock) {
    this.#options = options;
    this.#lock = lock;
    this.directory = options.directory;
    this.#config = options.config;
    this.#data = data;
    this.#tools = searchTools({ backend: data.backend, options: options.config.tools });
    this.#signal = options.signal ?? new AbortController().signal;
  }

  /** Multi-agent GRPO from `model.directory`: evaluates before, trains, evaluates after, writes model/ and report.html. */
  async train(): Promise<RunResult> {
    const {
      train: options,
      model,
      agents,
      rewards,
      run: { seed },
    } = this.#config;
    this.#needTrainTasks("train");
    await checkRunCommand(this.directory, "train");
    await checkRunSettings(this.directory, this.#config);
    await using models = await RunModels.open(this.#config);
    await models.check(this.#signal);
    const kind = options.staleness > 0 ? "trainWhileGenerating" : "train";
    await using policy = await this.#loadPolicy(model.directory, options.maxTokens, kind);
    await using reference =
      options.klCoefficient > 0 ? await this.#loadPolicy(model.directory, options.maxTokens) : undefined;
    await writeRunCommand(this.directory, "train");
    await using run = await this.#openRun(policy, "train", options.steps);
    const order = new TaskOrder(seed, this.#data.trainTasks.length);
    const { judge } = models;
    const sampling = { temperature: options.temperature, topP: 1, topK: 0, minP: 0 };
    const { promptStyle: prompts, promptLanguage, ...team } = agents;
    const tools = this.#toolset(models);
    const steps = await trainLoop({
      policy,
      reference,
      run,
      options,
      seed,
      signal: this.#signal,
      taskAt: (cursor) => this.#data.trainTasks[order.at(cursor)] as Task,
      runEpisode: (request) =>
        runPausableEpisode({
          ...request,
          ...team,
          policy,
          chat: policy.chat,
          tools,
          sampling,
          prompts,
          promptLanguage,
        }),
      score: (episode, signal) => scoreEpisode(episode, { ...rewards, judge, signal }),
      engineMetrics: async () => ({
        ...(await engineMetrics(policy)),
        ...toolMetrics(this.#data.backend),
        ...models.metrics(),
      }),
      evaluate: this.#data.heldOutTasks.length > 0 ? (step) => this.#evaluateAt(step, policy, models) : undefined,
    });
    await writeRunCounts(this.directory, this.#data.backend, models, this.#options.progress);
    return await this.#finish(policy, model.directory, steps, options.steps);
  }

  /** Supervised start from the scripted expert; writes model/ and report.html. */
  async coldStart(): Promise<RunResult> {
    const { coldStart: options, model } = this.#config;
    const { trainTasks, heldOutTasks } = this.#data;
    const config = this.#config;
    const tools = this.#tools;
    const from = model.create ? path.join(this.directory, "initial-model") : model.directory;
    this.#needTrainTasks("cold-start");
    await checkRunCommand(this.directory, "cold-start");
    await checkRunSettings(this.directory, this.#config);
    if (model.create) {
      await writeRunCommand(this.directory, "cold-start");
      await createModel(from, { config, shape: model.create, tools, tasks: trainTasks });
    }
    await using policy = await this.#loadPolicy(from, options.maxTokens, "train");
    await writeRunCommand(this.directory, "cold-start");
    await using run = await this.#openRun(policy, "cold start", options.steps);
    const { chat } = policy;
    const traces = {
      train: expertTraces({ config, chat, tools, tasks: trainTasks, split: "train" }),
      heldOut: expertTraces({
        config,
        chat,
        tools,
        tasks: heldOutTasks.length > 0 ? heldOutTasks : trainTasks,
        split: "heldOut",
      }),
    };
    const trace = (index: number, split: keyof typeof traces, signal: AbortSignal) => traces[split](index, signal);
    const drill = copyDrills(chat, config.run.seed);
    const steps = await coldStart({ policy, run, options, trace, drill, signal: this.#signal });
    return await this.#finish(policy, from, steps, options.steps);
  }

  /** Held-out scores of `model.directory` for every workflow of `eval.workflows`, and its sweeps; writes report.html. */
  async evaluate(): Promise<EvaluationResult[]> {
    const { eval: settings, model, train } = this.#config;
    if (this.#data.heldOutTasks.length === 0) {
      const where = "data.heldOutTasks, data.widesearch or data.qa";
      throw new WideSeekError("WS_INVALID_ARGUMENT", `eval: no held-out questions; set ${where}`, { op: "evaluate" });
    }
    await checkRunCommand(this.directory, "eval");
    await checkEvaluationSettings(this.directory, this.#config);
    await using models = await RunModels.open(this.#config);
    await models.check(this.#signal);
    await using policy = await this.#loadPolicy(model.directory, train.maxTokens);
    const { leftOut } = this.#data;
    if (leftOut.length > 0) {
      this.#options.progress.write(`left out, without a gold table: ${leftOut.join(", ")}\n`);
    }
    await writeRunCommand(this.directory, "eval");
    await writeAtomic(path.join(this.directory, "config.yaml"), formatConfig(this.#config));
    const parts = this.#heldOutParts(policy, models, `model ${await modelFingerprint(model.directory)}`);
    const results: Omit<EvaluationResult, "judgeFailed">[] = [];
    for (const workflow of settings.workflows) {
      const request = { name: workflow, step: 0, workflow, resumable: true };
      const report = await evaluateHeldOut(parts, request, this.#signal);
      const settingsOfSweeps = [
        { parameter: "maxSubagents", values: workflow === "mas" ? settings.sweepSubagents : [] },
        { parameter: "maxSubagentsPerCall", values: workflow === "mas" ? settings.sweepSubagentsPerCall : [] },
        { parameter: "maxTurns", values: settings.sweepTurns },
      ] as const;
      const sweeps: SweepReport[] = [];
      for (const each of settingsOfSweeps.filter(({ values }) => values.length > 0)) {
        sweeps.push(await sweepHeldOut(parts, workflow, each, this.#signal));
      }
      const figures = await writeSweepFigures(this.directory, workflow, sweeps);
      results.push({ name: workflow, report, sweeps, figures });
    }
    await writeRunCounts(this.directory, this.#data.backend, models, this.#options.progress);
    await writeHtmlReport(this.directory);
    return results.map((result) => ({ ...result, judgeFailed: models.judgeFailed }));
  }

  /** Scores before and after training, as they lie in the folder. */
  async evaluations(): Promise<Pick<EvaluationResult, "name" | "report">[]> {
    const { evaluations } = await readRunDirectory(this.directory, 1);
    return evaluations.filter(({ name }) => /^(before|after)-/.test(name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#data[Symbol.asyncDispose]();
    await this.#lock[Symbol.asyncDispose]();
  }

  #needTrainTasks(command: string): void {
    if (this.#data.trainTasks.length > 0) return;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${command}: no training questions; set data.trainTasks`, {
      op: command,
    });
  }

  async #loadPolicy(
    modelDir: string,
    maxTrainTokens: number,
    purpose: "score" | "train" | "trainWhileGenerating" = "score",
  ): Promise<ChatPolicy> {
    const trainable = purpose !== "score";
    const trainWhileGenerating = purpose === "trainWhileGenerating";
    const engine = { ...this.#config.engine, maxTrainTokens, trainWhileGenerating };
    const policy = await loadPolicy({ modelDir, ...engine, trainable });
    const { limits } = this.#config.agents;
    const contextTokens = Math.max(limits.contextTokens, ...Object.values(limits.contextTokensByRole).map(Number));
    if (contextTokens <= policy.maxContextTokens) {
      const { memory } = await policy.engineStats();
      const { weightsMiB, kvCacheMiB, inferenceMiB, trainingMiB } = memory;
      const sizes = { weights: weightsMiB, cache: kvCacheMiB, inference: inferenceMiB, training: trainingMiB };
      const plan = Object.entries(sizes)
        .map(([part, size]) => `${part} ${size.toFixed(1)} MiB`)
        .join(", ");
      this.#options.progress.write(`${modelDir}: ${policy.describe()}; ${plan}\n`);
      return policy;
    }
    await policy.close();
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `agents.limits.contextTokens: ${contextTokens}, but ${modelDir} holds at most ${policy.maxContextTokens}`,
      { op: "loadPolicy", details: { contextTokens, maxContextTokens: policy.maxContextTokens } },
    );
  }

  async #openRun(policy: ChatPolicy, label: string, steps: number): Promise<Run> {
    const run = await Run.open(
      {
        directory: this.directory,
        seed: this.#config.run.seed,
        configText: formatConfig(this.#config),
        configHash: hashConfig(this.#config),
        lock: this.#lock,
        traces: { decode: (tokenIds) => policy.chat.decode(tokenIds) },
      },
      policy,
    );
    run.progress = new Progress(this.#options.progress, label, steps, run.step);
    return run;
  }

  async #evaluateAt(step: number, policy: ChatPolicy, models: RunModels): Promise<Record<string, number>> {
    const { steps } = this.#config.train;
    const stage = step === 0 ? "before" : step === steps ? "after" : `step-${step}`;
    const parts = this.#heldOutParts(policy, models, `step ${step}`);
    const metrics: Record<string, number> = {};
    for (const workflow of this.#config.eval.workflows) {
      const name = `${stage}-${workflow}`;
      const report = await evaluateHeldOut(parts, { name, step, workflow, resumable: false }, this.#signal);
      Object.assign(metrics, heldOutMetrics(report, workflow));
    }
    return metrics;
  }

  #toolset({ summarizer }: RunModels): Toolset {
    return searchTools({ backend: this.#data.backend, options: this.#config.tools, summarizer });
  }

  #heldOutParts(policy: ChatPolicy, models: RunModels, modelLabel: string): HeldOutParts {
    const { heldOutTasks: tasks, leftOut, heldOutFiles: dataPaths } = this.#data;
    return {
      config: this.#config,
      policy,
      tools: this.#toolset(models),
      judge: models.judge,
      tasks,
      leftOut,
      dataPaths,
      directory: this.directory,
      modelLabel,
      progress: this.#options.progress,
    };
  }

  async #finish(policy: ChatPolicy, from: string, steps: number, planned: number): Promise<RunResult> {
    const finished = steps === planned;
    if (finished) await saveModel(policy, from, path.join(this.directory, "model"));
    await writeHtmlReport(this.directory);
    return { directory: this.directory, steps, finished };
  }
}
