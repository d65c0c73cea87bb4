// From scored groups to new weights: packing, corrections, gradients, the optimizer step. Owns no episodes.
import type { LossSettings, LossStats, OptimizerStepResult, Trainer } from "@wideseek/spec";
import { correctMismatch, emptyMismatch, mismatchMetrics, mismatchOf } from "./importance.ts";
import type { TrainedGroup } from "./loop.ts";
import { optimizerSettings, type TrainOptions } from "./options.ts";
import { packGroups } from "./pack.ts";
import type { PhaseClock } from "./phase-clock.ts";
import { addStats, emptyStats } from "./policy-metrics.ts";
import { learningRateAt } from "./schedule.ts";
import { stalenessMetrics } from "./staleness.ts";

export interface UpdateParts {
  policy: Trainer;
  /** Frozen starting model; required when `klCoefficient` > 0. */
  reference?: Pick<Trainer, "logprobs"> | undefined;
  options: TrainOptions;
}

/** What the training passes of a step left in the policy, and said. */
export interface Gradients {
  /** Groups that were trained on. */
  numGroups: number;
  numBatches: number;
  /** Packed, given ones included. */
  numTokens: number;
  stats: LossStats;
  /** How far the tokens are from the policy that trains on them. */
  metrics: Record<string, number>;
}

/** Adds the gradients of the groups that have something to teach. */
export async function computeGradients(
  groups: readonly TrainedGroup[],
  { policy, reference, options }: UpdateParts,
  clock: PhaseClock,
): Promise<Gradients> {
  // Equal rewards teach nothing: such a group is left out and does not dilute the others.
  const trained = groups.filter((group) => !group.advantages.zeroVariance);
  const policyVersion = policy.version;
  const allowStale = options.staleness > 0 || options.cutQuantile !== null;
  const batches = packGroups(trained, { maxTokens: options.maxTokens, policyVersion, allowStale });
  const { temperature, importanceCap } = options;

  let stats = emptyStats();
  let mismatch = emptyMismatch();
  for (const batch of batches) {
    if (reference) {
      const scored = await clock.time("reference", () => reference.logprobs(batch, temperature));
      batch.refLogprobs = scored.logprobs;
    }
    if (importanceCap !== null) {
      const { logprobs } = await clock.time("importance", () => policy.logprobs(batch, temperature));
      mismatch = correctMismatch(batch, logprobs, importanceCap, mismatch);
    }
    const batchStats = await clock.time("train", () => policy.forwardBackward(batch, lossSettings(options)));
    stats = addStats(stats, batchStats);
  }
  return {
    numGroups: trained.length,
    numBatches: batches.length,
    numTokens: batches.reduce((sum, batch) => sum + batch.tokenIds.length, 0),
    stats,
    metrics: {
      ...(allowStale && stalenessMetrics(trained, policyVersion)),
      ...mismatchMetrics(importanceCap === null ? mismatchOf(stats) : mismatch),
    },
  };
}

/** The optimizer's step; null when there are no gradients, for AdamW would still move the weights by its old moments. */
export async function applyGradients(
  step: number,
  { numBatches }: Gradients,
  { policy, options }: UpdateParts,
  clock: PhaseClock,
): Promise<{ update: OptimizerStepResult | null; learningRate: number }> {
  const learningRate = learningRateAt(step, { ...options, totalSteps: options.steps });
  if (numBatches === 0) return { update: null, learningRate };
  const settings = optimizerSettings(options, learningRate);
  return { update: await clock.time("optimizer", () => policy.optimizerStep(settings)), learningRate };
}

function lossSettings(options: TrainOptions): LossSettings {
  const { temperature, clipLow, clipHigh, klCoefficient } = options;
  const dualClip = options.dualClip ?? Number.POSITIVE_INFINITY;
  return { kind: "grpo", temperature, clipLow, clipHigh, dualClip, klCoefficient };
}
