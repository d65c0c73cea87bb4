// READ THIS FIRST: one step of multi-agent GRPO, from questions to new weights. Owns the order of things, no parts.
import { type Episode, numSampledTokens, type RewardBreakdown } from "@wideseek/spec";
import { type GroupAdvantages, groupAdvantages } from "./advantages.ts";
import { episodeMetrics, rewardMetrics } from "./episode-metrics.ts";
import { PhaseClock } from "./phase-clock.ts";
import { policyMetrics } from "./policy-metrics.ts";
import { endedOf, type Rollout, type RolloutParts, type RolloutPosition, rollout } from "./rollout.ts";
import { Run, type RunOptions } from "./run.ts";
import { applyGradients, computeGradients, type Gradients, type UpdateParts } from "./update.ts";

/** The parts that a training step joins. */
export interface TrainStepParts extends RolloutParts, UpdateParts {
  /** Counters of the engine after the step, under TensorBoard tags. */
  engineMetrics?: (() => Promise<Record<string, number>>) | undefined;
}

/** The episodes of one question, what they earned and what they are worth to each other. */
export interface TrainedGroup {
  episodes: readonly Episode[];
  rewards: readonly RewardBreakdown[];
  advantages: GroupAdvantages;
}

/** What a step begins with. */
export interface TrainStepStart {
  position: RolloutPosition;
  /** Its batch, if that was sampled during the step before. */
  ready?: Rollout | null;
  /** Sample the next step's batch while this one's is trained on. */
  sampleAhead?: boolean;
}

export interface TrainStepResult {
  groups: readonly TrainedGroup[];
  metrics: Record<string, number>;
  /** Where the next rollout begins. */
  next: RolloutPosition;
  /** The next step's batch, if it was sampled meanwhile. */
  ahead: Rollout | null;
}

/**
 * Step number `step` (from 1): questions -> episodes -> rewards -> advantages -> packed batches -> gradients -> weights.
 * An abort during the episodes rejects with `signal.reason` and leaves the weights as they were. With `sampleAhead` the
 * weights change when the next batch is there, so that one version of them has sampled all of it.
 */
export async function trainStep(
  step: number,
  { position, ready = null, sampleAhead = false }: TrainStepStart,
  parts: TrainStepParts,
  signal: AbortSignal,
): Promise<TrainStepResult> {
  const clock = new PhaseClock();
  const batch = ready ?? (await rollout(step, position, parts, signal));
  const groups = batch.groups.map((group): TrainedGroup => {
    const ended = endedOf(group);
    const rewards = ended.map(({ reward }) => reward);
    const advantages = groupAdvantages(rewards, { std: parts.options.advantageStd });
    return { episodes: ended.map(({ episode }) => episode), rewards, advantages };
  });
  const { gradients, ahead } = await clock.time("overlap", () =>
    untilBoth(
      () => computeGradients(groups, parts, clock),
      async (abort) => (sampleAhead ? await rollout(step + 1, batch.next, parts, abort) : null),
      signal,
    ),
  );
  const { update, learningRate } = await applyGradients(step, gradients, parts, clock);
  return {
    groups,
    next: ahead?.next ?? batch.next,
    ahead,
    metrics: {
      ...batchMetrics(batch, groups, gradients, clock, parts),
      ...policyMetrics(gradients.stats, update, learningRate),
      ...(await parts.engineMetrics?.()),
      ...timeMetrics(clock, batch, ready === null, sampleAhead),
    },
  };
}

/** Waits for both whatever happens; a failure of the first stops the second. */
async function untilBoth(
  first: () => Promise<Gradients>,
  second: (signal: AbortSignal) => Promise<Rollout | null>,
  signal: AbortSignal,
): Promise<{ gradients: Gradients; ahead: Rollout | null }> {
  const failure = new AbortController();
  const [gradients, ahead] = await Promise.allSettled([
    first().catch((error: unknown) => {
      failure.abort(error);
      throw error;
    }),
    second(AbortSignal.any([signal, failure.signal])),
  ]);
  if (gradients.status === "rejected") throw gradients.reason;
  if (ahead.status === "rejected") throw ahead.reason;
  return { gradients: gradients.value, ahead: ahead.value };
}

function batchMetrics(
  { facts }: Rollout,
  groups: readonly TrainedGroup[],
  { numGroups, numBatches, numTokens, metrics }: Gradients,
  clock: PhaseClock,
  { options }: TrainStepParts,
): Record<string, number> {
  const episodes = groups.flatMap((group) => group.episodes);
  const numSampled = episodes.flatMap((episode) => episode.trajectories).reduce((n, a) => n + numSampledTokens(a), 0);
  return {
    ...rewardMetrics(groups.flatMap((group) => group.rewards)),
    "reward/judged_again": facts.numJudgedAgain,
    "reward/judge_pause_seconds": facts.judgePauseSeconds,
    ...episodeMetrics(episodes),
    ...(options.cutQuantile !== null && {
      "episode/paused": facts.numPaused,
      "episode/resumed": facts.numResumed,
    }),
    "group/zero_variance": groups.length - numGroups,
    "group/trained": numGroups,
    "train/micro_batches": numBatches,
    ...metrics,
    "throughput/sampled_tokens": numSampled,
    "throughput/sampled_tokens_per_second": numSampled / facts.rolloutSeconds,
    "throughput/packed_tokens": numTokens,
    ...(numTokens > 0 && { "throughput/packed_tokens_per_second": numTokens / clock.seconds("train") }),
  };
}

/** The batch's own rollout is part of this step's time only if it was sampled in this step. */
function timeMetrics(clock: PhaseClock, { facts }: Rollout, isOwn: boolean, isAhead: boolean): Record<string, number> {
  const { "time/overlap": overlap = 0, ...phases } = clock.metrics();
  return {
    "time/rollout": facts.rolloutSeconds,
    "time/reward": facts.rewardSeconds,
    ...phases,
    ...((isAhead || !isOwn) && { "time/train_and_rollout": overlap }),
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
      const { carried, ready } = run.rollouts;
      const position = { cursor: run.cursor, carried };
      const start = {
        position,
        ready: ready && { ...ready, next: position },
        sampleAhead: options.staleness > 0 && step < options.steps,
      };
      const { groups, metrics, next, ahead } = await trainStep(step, start, parts, signal);
      await run.recordStep(step, metrics, step % options.traceEvery === 0 ? groups : []);
      run.cursor = next.cursor;
      run.rollouts = { carried: next.carried, ready: ahead };
      return describeStep(metrics);
    },
    after: evaluateOnce,
  });
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
