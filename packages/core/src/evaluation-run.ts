// One evaluation with its files in a run folder: finished episodes, traces, official results, report. Owns which files
// there are and that a killed evaluation goes on; a system under test is a function from task and seed to an episode.
import path from "node:path";
import type { RunConfig } from "@wideseek/config";
import { type EvaluationReport, evaluate, JsonLog, OfficialLayout, writePublishedFiles } from "@wideseek/eval";
import { scoreEpisode, stripThinking, type TableOutcome } from "@wideseek/rewards";
import { type Episode, type Judge, makeFolder, type RewardBreakdown, type Task } from "@wideseek/spec";
import { episodeTrace, Progress, type ProgressStream, writeAtomic } from "@wideseek/train";
import { publishedGold, readFinalAnswer } from "./final-answer.ts";

export interface EvaluationRequest {
  /** Run folder. */
  directory: string;
  /** Of the files: eval/NAME.json, eval/NAME.results.jsonl, eval/NAME.episodes.jsonl, official/NAME/, published/NAME/. */
  name: string;
  /** What was evaluated; finished episodes under another label are refused. */
  label: string;
  /** First part of the official file names. */
  model: string;
  tasks: readonly Task[];
  /** Benchmark questions that are not among `tasks`, for the report. */
  leftOut?: readonly string[] | undefined;
  settings: Pick<RunConfig["eval"], "samples" | "concurrency" | "seed" | "judgeAttempts" | "traces" | "traceSamples">;
  /** Files that the questions are from. */
  dataPaths?: readonly string[] | undefined;
  rewards: RunConfig["rewards"];
  judge: Judge;
  runEpisode(task: Task, sample: number, seed: bigint): Promise<Episode>;
  /** Token ids as text, for traces; agents that are recorded in texts need none. */
  decode?: ((tokenIds: Int32Array) => string | Promise<string>) | undefined;
  /** "report": all files. "points": finished episodes only, the report is the caller's. "once": nothing is kept. */
  keep: "report" | "points" | "once";
  /** Training step, for traces. */
  step?: number | undefined;
  progress: ProgressStream;
  signal: AbortSignal;
}

export interface EvaluationOutcome {
  report: EvaluationReport;
  /** The last thing that went wrong with a lead or single agent, for an error about all of them; "" if nothing did. */
  lastError: string;
}

/** Runs what is not finished yet. @throws as `evaluate` */
export async function runEvaluation(request: EvaluationRequest): Promise<EvaluationOutcome> {
  const { directory, name, label, settings, tasks, rewards, judge, signal, keep } = request;
  const bar = new Progress(request.progress, `evaluate ${name}`, tasks.length * settings.samples);
  const file = (ending: string): string => path.join(directory, "eval", `${name}${ending}`);
  makeFolder(path.join(directory, "eval"));
  await using traces = keep === "points" ? undefined : await TraceLog.open(file(".episodes.jsonl"), request);
  const official = keep === "report" ? new OfficialResults(request) : undefined;
  const tables = new WeakMap<Episode, TableOutcome>();
  let lastError = "";
  const report = await evaluate({
    tasks,
    samples: settings.samples,
    concurrency: settings.concurrency,
    seed: BigInt(settings.seed),
    label,
    signal,
    resumeFile: keep === "once" ? undefined : file(".results.jsonl"),
    runEpisode: (task, sample, seed) => request.runEpisode(task, sample, seed),
    score: (episode) =>
      scoreEpisode(episode, {
        ...rewards,
        judge,
        signal,
        columnRules: "task",
        onTable: (outcome) => tables.set(episode, outcome),
      }),
    judgeAgain: {
      attempts: settings.judgeAttempts,
      pause: (numAttempts) => pause(judgePauseSeconds(numAttempts), signal),
    },
    onEpisode: async (episode, reward) => {
      lastError = episode.trajectories[0]?.errors.at(-1) ?? lastError;
      await traces?.add(episode, reward);
      await official?.add(episode, reward, tables.get(episode));
    },
    onProgress: ({ numFinished, meanScore }) => {
      bar.update(numFinished, Number.isNaN(meanScore) ? "" : `score ${meanScore.toFixed(3)}`);
    },
  });
  const whole = request.leftOut?.length ? { ...report, leftOut: [...request.leftOut] } : report;
  if (keep !== "points") await writeJson(file(".json"), whole);
  await official?.finish(whole);
  if (keep === "report") {
    await writePublishedFiles({
      directory: path.join(directory, "published", name),
      experimentName: name,
      report: whole,
      tasks,
      dataPaths: request.dataPaths ?? [],
      resultsFile: file(".results.jsonl"),
      tracesFile: file(".episodes.jsonl"),
      readAnswer: (task, text) => readFinalAnswer(task, text, rewards.fence),
      goldOf: publishedGold,
    });
  }
  return { report: whole, lastError };
}

/** 2, 4, 8 ... seconds, a minute at most: with the default attempts an outage of three minutes costs no judgement. */
function judgePauseSeconds(numAttempts: number): number {
  return Math.min(60, 2 ** numAttempts);
}

/** Rejects on abort. */
async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => reject(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(resolve, seconds * 1000);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

const traceKey = (instanceId: string | undefined, sample: number | undefined): string =>
  JSON.stringify([instanceId, sample]);

/** Whole traces of the first samples of the first questions, written as the episodes end. */
class TraceLog implements AsyncDisposable {
  readonly #log: JsonLog;
  readonly #open: Set<string>;
  readonly #request: EvaluationRequest;

  private constructor(log: JsonLog, open: Set<string>, request: EvaluationRequest) {
    this.#log = log;
    this.#open = open;
    this.#request = request;
  }

  static async open(file: string, request: EvaluationRequest): Promise<TraceLog> {
    const { traces, traceSamples, samples } = request.settings;
    const kept = Array.from({ length: Math.min(traceSamples, samples) }, (_, sample) => sample);
    const tasks = request.tasks.slice(0, traces);
    const open = new Set(tasks.flatMap(({ instanceId }) => kept.map((sample) => traceKey(instanceId, sample))));
    if (request.keep === "once") await writeAtomic(file, "");
    const log = await JsonLog.open(file, (value) => {
      const { task, sample } = value as { task?: { instanceId?: string }; sample?: number };
      open.delete(traceKey(task?.instanceId, sample));
    });
    return new TraceLog(log, open, request);
  }

  async add(episode: Episode, reward: RewardBreakdown): Promise<void> {
    if (!this.#open.delete(traceKey(episode.task.instanceId, episode.sample))) return;
    const { step = 0, decode } = this.#request;
    await this.#log.append(await episodeTrace({ step, episode, reward }, { decode }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log[Symbol.asyncDispose]();
  }
}

/** Results of benchmark tables in the official layout; other tasks have none. */
class OfficialResults {
  readonly #layout: OfficialLayout;
  readonly #instanceIds: ReadonlySet<string>;

  constructor({ directory, name, model, tasks }: EvaluationRequest) {
    this.#layout = new OfficialLayout(path.join(directory, "official", name), model);
    const scored = tasks.filter((task) => task.kind === "table" && task.evaluation !== undefined);
    this.#instanceIds = new Set(scored.map((task) => task.instanceId));
  }

  async add(episode: Episode, reward: RewardBreakdown, outcome: TableOutcome | undefined): Promise<void> {
    const { task, sample, trajectories } = episode;
    if (!this.#instanceIds.has(task.instanceId)) return;
    const lead = trajectories[0];
    // The official word for no answer; a half of one must not be scored there when it is not here.
    const response = lead?.stopReason === "answered" ? stripThinking(lead.answer) : "NULL";
    const { instanceId, question } = task;
    const table = outcome?.details?.();
    await this.#layout.writeSample({ instanceId, trial: sample, question, response, reward, table });
  }

  async finish(report: EvaluationReport): Promise<void> {
    if (this.#instanceIds.size > 0) await this.#layout.writeSummary(report, this.#instanceIds);
  }
}

export async function writeJson(file: string, value: unknown): Promise<void> {
  makeFolder(path.dirname(file));
  await writeAtomic(file, `${JSON.stringify(value)}\n`);
}
