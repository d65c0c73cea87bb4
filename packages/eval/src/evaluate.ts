// Runs k samples of every task once, scores and aggregates them. Owns order, seeds and resuming; no model and no judge.
import { createHash } from "node:crypto";
import { type Episode, type RewardBreakdown, type Task, WideSeekError } from "@wideseek/spec";
import { type EpisodeResult, episodeResult } from "./episode-result.ts";
import { type AtK, aggregateMeasures, type Measure } from "./metrics.ts";
import { ResumeLog } from "./resume-log.ts";
import { type EpisodeStatistics, episodeStatistics } from "./statistics.ts";

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
  /** Episodes in flight at once. */
  concurrency: number;
  /** Fixes every episode seed together with the instance id and the sample; default 0. */
  seed?: bigint | undefined;
  /** Names model and settings; a resume file of another label is refused. Default "". */
  label?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /** Called once per episode that really ran, e.g. to keep its trace. */
  onEpisode?: ((episode: Episode, reward: RewardBreakdown) => Promise<void> | void) | undefined;
  /** JSONL of finished episodes: appended while running, read first when it exists. */
  resumeFile?: string | undefined;
}

export interface TaskResult {
  instanceId: string;
  kind: Task["kind"];
  question: string;
  /** In order of `sample`. */
  episodes: EpisodeResult[];
}

/** JSON-safe. */
export interface EvaluationReport {
  label: string;
  samples: number;
  numTasks: number;
  numEpisodes: number;
  /** Episodes without judgement; in no measure. */
  numUnjudged: number;
  /** Tasks in no measure because none of their samples was judged. */
  numTasksWithoutJudgement: number;
  /** Episodes taken from the resume file. */
  numResumed: number;
  /** Wall time of this run. */
  seconds: number;
  measures: Partial<Record<Measure, AtK>>;
  statistics: EpisodeStatistics;
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

/** Finished episodes of the resume file that belong to this plan; samples beyond k are left alone. */
function takeFinished(log: ResumeLog, options: EvaluateOptions, seed: bigint): Map<string, EpisodeResult> {
  const finished = new Map<string, EpisodeResult>();
  const known = new Set(options.tasks.map((task) => task.instanceId));
  for (const result of log.results) {
    if (!known.has(result.instanceId) || result.sample >= options.samples) continue;
    const expected = episodeSeed(seed, result.instanceId, result.sample).toString();
    if (result.seed !== expected) {
      throw new WideSeekError(
        "WS_INVALID_ARGUMENT",
        `${options.resumeFile}: ${result.instanceId} sample ${result.sample} ran with seed ${result.seed}, this evaluation asks for ${expected}; use the same seed or another file`,
        { op: "evaluate" },
      );
    }
    finished.set(episodeKey(result.instanceId, result.sample), result);
  }
  return finished;
}

/** Runs `work` over all items, at most `concurrency` at once. After a failure nothing new starts; rejects when all in flight have ended. */
async function runAll<T>(items: readonly T[], concurrency: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (!failed) {
      const item = items[next++];
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
 * Every (task, sample) once, whatever was interrupted before. An unjudged episode is kept as such and not run again.
 * @throws WS_INVALID_ARGUMENT, WS_CORRUPT_FILE, WS_IO; what `runEpisode` or `score` reject with; `signal.reason` on abort
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationReport> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const start = performance.now();
  const seed = options.seed ?? 0n;
  const label = options.label ?? "";
  await using log = options.resumeFile === undefined ? undefined : await ResumeLog.open(options.resumeFile, label);
  const finished = log ? takeFinished(log, options, seed) : new Map<string, EpisodeResult>();
  const numResumed = finished.size;

  const plan = options.tasks.flatMap((task) =>
    Array.from({ length: options.samples }, (_, sample) => ({ task, sample })),
  );
  const open = plan.filter(({ task, sample }) => !finished.has(episodeKey(task.instanceId, sample)));
  let scoreSum = 0;
  let numJudged = 0;
  const report = (): void => {
    const meanScore = numJudged === 0 ? Number.NaN : scoreSum / numJudged;
    options.onProgress?.({ numFinished: finished.size, numEpisodes: plan.length, meanScore });
  };
  const count = ({ reward }: EpisodeResult): void => {
    if (!reward.judged) return;
    scoreSum += reward.score;
    numJudged++;
  };
  finished.forEach(count);
  report();

  await runAll(open, options.concurrency, async ({ task, sample }) => {
    options.signal?.throwIfAborted();
    const episode = await options.runEpisode(task, sample, episodeSeed(seed, task.instanceId, sample));
    const reward = await options.score(episode);
    const result = episodeResult(episode, reward);
    // The trace first: should the process die in between, the episode runs again rather than lacking its trace.
    await options.onEpisode?.(episode, reward);
    await log?.append(result);
    finished.set(episodeKey(task.instanceId, sample), result);
    count(result);
    report();
  });

  return summarize(options, label, finished, numResumed, (performance.now() - start) / 1000);
}

function summarize(
  options: EvaluateOptions,
  label: string,
  finished: ReadonlyMap<string, EpisodeResult>,
  numResumed: number,
  seconds: number,
): EvaluationReport {
  const tasks = options.tasks.map((task): TaskResult => {
    const samples = Array.from({ length: options.samples }, (_, sample) =>
      finished.get(episodeKey(task.instanceId, sample)),
    );
    const episodes = samples.filter((result) => result !== undefined);
    return { instanceId: task.instanceId, kind: task.kind, question: task.question, episodes };
  });
  const results = tasks.flatMap((task) => task.episodes);
  const isJudged = (result: EpisodeResult): boolean => result.reward.judged;
  return {
    label,
    samples: options.samples,
    numTasks: tasks.length,
    numEpisodes: results.length,
    numUnjudged: results.filter((result) => !isJudged(result)).length,
    numTasksWithoutJudgement: tasks.filter((task) => !task.episodes.some(isJudged)).length,
    numResumed,
    seconds,
    measures: aggregateMeasures(
      tasks.map((task) => ({ kind: task.kind, rewards: task.episodes.map((result) => result.reward) })),
    ),
    statistics: episodeStatistics(results),
    tasks,
  };
}
