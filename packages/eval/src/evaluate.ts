// Runs k samples of every task once, scores and aggregates them. Owns order, seeds and resuming; no model and no judge.
import { createHash } from "node:crypto";
import { type Episode, type RewardBreakdown, type Task, WideSeekError } from "@wideseek/spec";
import {
  type EpisodeResult,
  type EpisodeScore,
  episodeResult,
  episodeScore,
  episodeToJudge,
} from "./episode-result.ts";
import { episodeErrors, FailureCounter, type FailureSummary } from "./failures.ts";
import { type AtK, aggregateMeasures, type Measure, macroMeasures, type ScoredTask } from "./metrics.ts";
import { ResumeLog } from "./resume-log.ts";
import { type EpisodeStatistics, StatisticsCounter } from "./statistics.ts";

export interface EvaluationProgress {
  numFinished: number;
  numEpisodes: number;
  /** Running mean of `reward.score` over judged episodes; NaN before the first. */
  meanScore: number;
}

export interface EvaluateOptions {
  tasks: readonly Task[];
  /** k: episodes per task. */
  samples: number;
  /** Rejects only on abort or a broken engine; then the evaluation stops and can be resumed. */
  runEpisode(task: Task, sample: number, seed: bigint): Promise<Episode>;
  score(episode: Episode): Promise<RewardBreakdown>;
  /** An episode that the judge could not judge is scored again after a pause; left out, it is not. */
  judgeAgain?: JudgeAgain | undefined;
  /** Episodes in flight at once. */
  concurrency: number;
  /** Fixes every episode seed together with the instance id and the sample; default 0. */
  seed?: bigint | undefined;
  /** Names model and settings; a resume file of another label is refused. Default "". */
  label?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /**
   * Called once per episode that really ran, e.g. to keep its trace, and again when it was judged after a resume: then with
   * answer and counts only.
   */
  onEpisode?: ((episode: Episode, reward: RewardBreakdown) => Promise<void> | void) | undefined;
  /** JSONL of finished episodes: appended while running, read first when it exists. */
  resumeFile?: string | undefined;
}

export interface JudgeAgain {
  /** Times that an episode is scored at most, the first included. */
  attempts: number;
  /** Called before each further attempt with the number of attempts so far; rejects on abort. */
  pause(numAttempts: number): Promise<void>;
}

export interface TaskResult {
  instanceId: string;
  kind: Task["kind"];
  language: Task["language"];
  dataset?: string | undefined;
  question: string;
  /** In order of `sample`. */
  episodes: EpisodeScore[];
}

/** Scores of the tasks of one language or one benchmark set. */
export interface EvaluationPart {
  by: "language" | "dataset";
  value: string;
  numTasks: number;
  measures: Partial<Record<Measure, AtK>>;
}

/** JSON-safe. */
export interface EvaluationReport {
  label: string;
  samples: number;
  numTasks: number;
  numEpisodes: number;
  /** Episodes without judgement: only in measures that need none; the others have bounds. */
  numUnjudged: number;
  /** Tasks none of whose samples was judged. */
  numTasksWithoutJudgement: number;
  /** Episodes taken from the resume file. */
  numResumed: number;
  /** Benchmark questions that could not be scored, so are in nothing else here. */
  leftOut?: string[] | undefined;
  /** Wall time of this run. */
  seconds: number;
  measures: Partial<Record<Measure, AtK>>;
  /** Each language and each set, where there are several. */
  parts: EvaluationPart[];
  /** Means over the sets, every set counting the same; where there are several. */
  macro?: Partial<Record<Measure, AtK>> | undefined;
  statistics: EpisodeStatistics;
  failures: FailureSummary;
  tasks: TaskResult[];
}

/** Seed of one episode: the first 64 bits of SHA-256, so that adding tasks or samples changes no other episode. */
export function episodeSeed(seed: bigint, instanceId: string, sample: number): bigint {
  return createHash("sha256").update(`${seed}\u0000${instanceId}\u0000${sample}`).digest().readBigUInt64LE(0);
}

function checkOptions(options: EvaluateOptions): void {
  const fail = (message: string): never => {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `evaluate: ${message}`, { op: "evaluate" });
  };
  if (options.tasks.length === 0) fail("no tasks; name a file with at least one question");
  for (const name of ["samples", "concurrency"] as const) {
    const value = options[name];
    if (!Number.isInteger(value) || value < 1) fail(`${name} is ${value}, must be an integer of at least 1`);
  }
  const seen = new Set<string>();
  for (const { instanceId } of options.tasks) {
    if (seen.has(instanceId)) fail(`instanceId ${JSON.stringify(instanceId)} is there twice`);
    seen.add(instanceId);
  }
}

const episodeKey = (instanceId: string, sample: number): string => JSON.stringify([instanceId, sample]);

/** Scores and counts of the episodes that have ended; whole episodes are not kept. */
class Finished {
  /** Ended in an earlier run, and still to be judged. */
  readonly unjudged: Map<string, EpisodeResult> = new Map();
  readonly #scores: Map<string, EpisodeScore> = new Map();
  readonly statistics: StatisticsCounter = new StatisticsCounter();
  readonly failures: FailureCounter = new FailureCounter();
  #scoreSum = 0;
  #numJudged = 0;

  get size(): number {
    return this.#scores.size;
  }

  get meanScore(): number {
    return this.#numJudged === 0 ? Number.NaN : this.#scoreSum / this.#numJudged;
  }

  get(instanceId: string, sample: number): EpisodeScore | undefined {
    return this.#scores.get(episodeKey(instanceId, sample));
  }

  add(result: EpisodeResult): void {
    this.unjudged.delete(episodeKey(result.instanceId, result.sample));
    this.#scores.set(episodeKey(result.instanceId, result.sample), episodeScore(result));
    this.statistics.add(result);
    this.failures.add(episodeErrors(result), result.reward);
    if (!result.reward.judged) return;
    this.#scoreSum += result.reward.score;
    this.#numJudged++;
  }
}

/** Takes episodes of the resume file that belong to this plan; samples beyond k are left alone. */
function takeFinished(finished: Finished, options: EvaluateOptions, seed: bigint): (result: EpisodeResult) => void {
  const known = new Set(options.tasks.map((task) => task.instanceId));
  return (result) => {
    if (!known.has(result.instanceId) || result.sample >= options.samples) return;
    const expected = episodeSeed(seed, result.instanceId, result.sample).toString();
    if (result.seed !== expected) {
      throw new WideSeekError(
        "WS_INVALID_ARGUMENT",
        `${options.resumeFile}: ${result.instanceId} sample ${result.sample} ran with seed ${result.seed}, this evaluation asks for ${expected}; use the same seed or another file`,
        { op: "evaluate" },
      );
    }
    if (result.reward.judged) finished.add(result);
    else finished.unjudged.set(episodeKey(result.instanceId, result.sample), result);
  };
}

async function scoreUntilJudged(episode: Episode, { score, judgeAgain }: EvaluateOptions): Promise<RewardBreakdown> {
  for (let numAttempts = 1; ; numAttempts++) {
    const reward = await score(episode);
    if (reward.judged || judgeAgain === undefined || numAttempts >= judgeAgain.attempts) return reward;
    await judgeAgain.pause(numAttempts);
  }
}

/** Runs `work` over all items, at most `concurrency` at once. After a failure nothing new starts; rejects when all in flight have ended. */
async function runAll<T>(items: readonly T[], concurrency: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  // One start in each turn of the event loop: a thousand prompts rendered in one go would stop tools for seconds.
  let gate: Promise<void> = Promise.resolve();
  const nextTurn = (): Promise<void> => {
    gate = gate.then(() => new Promise((resolve) => setImmediate(resolve)));
    return gate;
  };
  const worker = async (): Promise<void> => {
    while (!failed) {
      await nextTurn();
      const item = failed ? undefined : items[next++];
      if (item === undefined) return;
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  const failure = outcomes.find((outcome) => outcome.status === "rejected");
  if (failure) throw failure.reason;
}

/**
 * Every (task, sample) once, whatever was interrupted before. The answer of an episode that could not be judged is kept
 * and judged when the evaluation is resumed. Memory holds the episodes in flight and a few numbers of every other.
 * @throws WS_INVALID_ARGUMENT, WS_CORRUPT_FILE, WS_IO; what `runEpisode` or `score` reject with; `signal.reason` on abort
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationReport> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const start = performance.now();
  const seed = options.seed ?? 0n;
  const label = options.label ?? "";
  const finished = new Finished();
  const { resumeFile } = options;
  const take = takeFinished(finished, options, seed);
  await using log = resumeFile === undefined ? undefined : await ResumeLog.open(resumeFile, label, take);
  const numResumed = finished.size;

  const plan = options.tasks.flatMap((task) =>
    Array.from({ length: options.samples }, (_, sample) => ({ task, sample })),
  );
  const open = plan.filter(({ task, sample }) => finished.get(task.instanceId, sample) === undefined);
  const report = (): void => {
    const { size: numFinished, meanScore } = finished;
    options.onProgress?.({ numFinished, numEpisodes: plan.length, meanScore });
  };
  report();

  await runAll(open, options.concurrency, async ({ task, sample }) => {
    options.signal?.throwIfAborted();
    const before = finished.unjudged.get(episodeKey(task.instanceId, sample));
    const episode = before
      ? episodeToJudge(task, before)
      : await options.runEpisode(task, sample, episodeSeed(seed, task.instanceId, sample));
    const reward = await scoreUntilJudged(episode, options);
    const result = before ? { ...before, reward } : episodeResult(episode, reward);
    // The trace first: should the process die in between, the episode runs again rather than lacking its trace.
    await options.onEpisode?.(episode, reward);
    await log?.append(result);
    finished.add(result);
    report();
  });

  return summarize(options, label, finished, numResumed, (performance.now() - start) / 1000);
}

function summarize(
  options: EvaluateOptions,
  label: string,
  finished: Finished,
  numResumed: number,
  seconds: number,
): EvaluationReport {
  const tasks = options.tasks.map((task): TaskResult => {
    const { instanceId, kind, language, dataset, question } = task;
    const samples = Array.from({ length: options.samples }, (_, sample) => finished.get(instanceId, sample));
    const episodes = samples.filter((result) => result !== undefined);
    return { instanceId, kind, language, ...(dataset !== undefined && { dataset }), question, episodes };
  });
  const results = tasks.flatMap((task) => task.episodes);
  const isJudged = (result: EpisodeScore): boolean => result.reward.judged;
  const sets = parts(tasks, "dataset");
  return {
    label,
    samples: options.samples,
    numTasks: tasks.length,
    numEpisodes: results.length,
    numUnjudged: results.filter((result) => !isJudged(result)).length,
    numTasksWithoutJudgement: tasks.filter((task) => !task.episodes.some(isJudged)).length,
    numResumed,
    seconds,
    measures: aggregateMeasures(tasks.map(scoredTask)),
    parts: [...parts(tasks, "language"), ...sets].map(({ tasks: members, ...part }) => ({
      ...part,
      measures: aggregateMeasures(members.map(scoredTask)),
    })),
    ...(sets.length > 0 && { macro: macroMeasures(sets.map(({ tasks: members }) => members.map(scoredTask))) }),
    statistics: finished.statistics.statistics(),
    failures: finished.failures.summary(),
    tasks,
  };
}

function scoredTask({ kind, episodes }: TaskResult): ScoredTask {
  return { kind, rewards: episodes.map((result) => result.reward) };
}

/** Tasks by language or set, in order of appearance; none where all are of one. */
function parts(
  tasks: readonly TaskResult[],
  by: EvaluationPart["by"],
): (Pick<EvaluationPart, "by" | "value" | "numTasks"> & { tasks: TaskResult[] })[] {
  const members = new Map<string, TaskResult[]>();
  for (const task of tasks) {
    const value = task[by];
    if (value === undefined) continue;
    const list = members.get(value);
    if (list) list.push(task);
    else members.set(value, [task]);
  }
  if (members.size < 2) return [];
  return [...members].map(([value, list]) => ({ by, value, numTasks: list.length, tasks: list }));
}
