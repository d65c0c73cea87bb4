// READ THIS FIRST: one step of multi-agent GRPO, from questions to new weights. Owns the order of things, no parts.
import {
  type Episode,
  type LossSettings,
  numSampledTokens,
  type RewardBreakdown,
  type Task,
  type Trainer,
} from "@wideseek/spec";
import { type GroupAdvantages, groupAdvantages } from "./advantages.ts";
import { mapConcurrent } from "./concurrent.ts";
import { episodeMetrics, rewardMetrics } from "./episode-metrics.ts";
import { judgeAgain } from "./judge-again.ts";
import { optimizerSettings, type TrainOptions } from "./options.ts";
import { packGroups } from "./pack.ts";
import { PhaseClock } from "./phase-clock.ts";
import { addStats, emptyStats, policyMetrics } from "./policy-metrics.ts";
import { Run, type RunOptions } from "./run.ts";
import { learningRateAt } from "./schedule.ts";
import { deriveSeed } from "./seeds.ts";

/** What one episode is made from; the seed alone decides every sampled token. */
export interface EpisodeRequest {
  task: Task;
  sample: number;
  seed: bigint;
  signal: AbortSignal;
}

/** The parts that a training step joins. */
export interface TrainStepParts {
  policy: Trainer;
  /** Never rejects for a bad rollout, only on abort or a broken engine. */
  runEpisode(request: EpisodeRequest): Promise<Episode>;
  score(episode: Episode, signal: AbortSignal): Promise<RewardBreakdown>;
  /** The task at a position of the endless, seeded order. */
  taskAt(cursor: number): Task;
  /** Pauses before unjudged episodes are judged again; default: timers. */
  sleep?: ((seconds: number, signal: AbortSignal) => Promise<void>) | undefined;
  /** Frozen starting model; required when `klCoefficient` > 0. */
  reference?: Pick<Trainer, "logprobs"> | undefined;
  /** Counters of the engine after the step, under TensorBoard tags. */
  engineMetrics?: (() => Promise<Record<string, number>>) | undefined;
  options: TrainOptions;
  seed: number;
}

/** The episodes of one question, what they earned and what they are worth to each other. */
export interface TrainedGroup {
  episodes: readonly Episode[];
  rewards: readonly RewardBreakdown[];
  advantages: GroupAdvantages;
}

export interface TrainStepResult {
  groups: readonly TrainedGroup[];
  metrics: Record<string, number>;
}

/**
 * Step number `step` (from 1): questions -> episodes -> rewards -> advantages -> packed batches -> gradients -> weights.
 * An abort during the episodes rejects with `signal.reason` and leaves the policy as it was.
 */
export async function trainStep(step: number, parts: TrainStepParts, signal: AbortSignal): Promise<TrainStepResult> {
  const { policy, options, seed } = parts;
  const { questionsPerStep, groupSize, maxConcurrentEpisodes } = options;
  const clock = new PhaseClock();

  const attempts = Array.from({ length: questionsPerStep * groupSize }, (_, index) => {
    const question = Math.floor(index / groupSize);
    const sample = index % groupSize;
    const task = parts.taskAt((step - 1) * questionsPerStep + question);
    return { task, sample, seed: deriveSeed("train", seed, step, question, task.instanceId, sample) };
  });
  const episodes = await clock.time("rollout", () =>
    mapConcurrent(attempts, maxConcurrentEpisodes, (a, abort) => parts.runEpisode({ ...a, signal: abort }), signal),
  );
  const score = (some: readonly Episode[]): Promise<RewardBreakdown[]> =>
    mapConcurrent(some, maxConcurrentEpisodes, (episode, abort) => parts.score(episode, abort), signal);
  const { rewards, numRetries, pauseSeconds } = await clock.time("reward", async () =>
    judgeAgain(await score(episodes), (indices) => score(indices.map((index) => episodes[index] as Episode)), {
      maxPauseSeconds: options.judgeRetrySeconds,
      sleep: parts.sleep,
      signal,
    }),
  );

  const groups = Array.from({ length: questionsPerStep }, (_, question): TrainedGroup => {
    const members = [question * groupSize, (question + 1) * groupSize] as const;
    const groupRewards = rewards.slice(...members);
    const advantages = groupAdvantages(groupRewards, { std: options.advantageStd });
    return { episodes: episodes.slice(...members), rewards: groupRewards, advantages };
  });
  // Equal rewards teach nothing: such a group is left out and does not dilute the others.
  const trained = groups.filter((group) => !group.advantages.zeroVariance);
  const batches = packGroups(trained, { maxTokens: options.maxTokens, policyVersion: policy.version });

  let stats = emptyStats();
  for (const batch of batches) {
    const { reference } = parts;
    if (reference) {
      const scored = await clock.time("reference", () => reference.logprobs(batch, options.temperature));
      batch.refLogprobs = scored.logprobs;
    }
    const batchStats = await clock.time("train", () => policy.forwardBackward(batch, lossSettings(options)));
    stats = addStats(stats, batchStats);
  }
  const learningRate = learningRateAt(step, { ...options, totalSteps: options.steps });
  // Without gradients AdamW would still move the weights by its old moments.
  const update =
    batches.length === 0
      ? null
      : await clock.time("optimizer", () => policy.optimizerStep(optimizerSettings(options, learningRate)));

  const numSampled = episodes.flatMap((episode) => episode.trajectories).reduce((n, a) => n + numSampledTokens(a), 0);
  const numPacked = batches.reduce((sum, batch) => sum + batch.tokenIds.length, 0);
  return {
    groups,
    metrics: {
      ...rewardMetrics(rewards),
      "reward/judged_again": numRetries,
      "reward/judge_pause_seconds": pauseSeconds,
      ...policyMetrics(stats, update, learningRate),
      ...episodeMetrics(episodes),
      "group/zero_variance": groups.length - trained.length,
      "group/trained": trained.length,
      "train/micro_batches": batches.length,
      "throughput/sampled_tokens": numSampled,
      "throughput/sampled_tokens_per_second": numSampled / clock.seconds("rollout"),
      "throughput/packed_tokens": numPacked,
      ...(numPacked > 0 && { "throughput/packed_tokens_per_second": numPacked / clock.seconds("train") }),
      ...(await parts.engineMetrics?.()),
      ...clock.metrics(),
    },
  };
}

export interface TrainLoopOptions extends TrainStepParts {
  /** An open run, or where to open one for this call. */
  run: Run | RunOptions;
  /** Held-out scores under TensorBoard tags; called before the first step, every `evalEvery` steps and at the end. */
  evaluate?: ((step: number, signal: AbortSignal) => Promise<Record<string, number>>) | undefined;
  /** Ends the loop with a checkpoint of the last whole step. */
  signal?: AbortSignal | undefined;
}

/** Runs the remaining steps of `run`. Returns the number of steps done, fewer than `options.steps` after a stop. */
export async function trainLoop(parts: TrainLoopOptions): Promise<number> {
  if (!(parts.run instanceof Run)) {
    await using opened = await Run.open(parts.run, parts.policy);
    return await trainLoop({ ...parts, run: opened });
  }
  const { run, options, policy, evaluate } = parts;
  const signal = parts.signal ?? new AbortController().signal;
  const isDue = (step: number): boolean =>
    step === 0 || step === options.steps || (options.evalEvery > 0 && step % options.evalEvery === 0);
  const evaluateOnce = async (step: number): Promise<void> => {
    if (evaluate && isDue(step) && !run.isEvaluated(step)) {
      await run.recordEvaluation(step, await evaluate(step, signal));
    }
  };
  return await run.loop({
    ...options,
    signal,
    policy,
    // A run that was stopped between a step and its evaluation makes up for it here.
    before: () => evaluateOnce(run.step),
    step: async (step) => {
      const { groups, metrics } = await trainStep(step, parts, signal);
      await run.recordStep(step, metrics, step % options.traceEvery === 0 ? groups : []);
      run.cursor = step * options.questionsPerStep;
      return describeStep(metrics);
    },
    after: evaluateOnce,
  });
}

function lossSettings(options: TrainOptions): LossSettings {
  const { temperature, clipLow, clipHigh, klCoefficient } = options;
  const dualClip = options.dualClip ?? Number.POSITIVE_INFINITY;
  return { kind: "grpo", temperature, clipLow, clipHigh, dualClip, klCoefficient };
}

function describeStep(metrics: Readonly<Record<string, number>>): string {
  const show = (name: string, tag: string, digits = 3): string => `${name} ${(metrics[tag] ?? 0).toFixed(digits)}`;
  return [
    show("reward", "reward/mean"),
    show("score", "reward/score"),
    show("entropy", "policy/entropy"),
    show("subagents", "episode/subagents", 1),
    show("zero-variance", "group/zero_variance", 0),
    ...((metrics["reward/unjudged"] ?? 0) > 0 ? [show("unjudged", "reward/unjudged", 0)] : []),
    `${show("", "time/step", 1).trim()} s`,
  ].join("  ");
}
