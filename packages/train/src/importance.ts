// Truncated importance weights of tokens whose log-probabilities were sampled otherwise than the training pass computes
// them: by older weights, or by kernels that round differently. Owns no loss.
import type { LossStats, PackedBatch } from "@wideseek/spec";

/** Training minus sampling log-probability of the trained tokens so far, as sums. */
export interface Mismatch {
  numTokens: number;
  sum: number;
  maxAbs: number;
  /** ratio - 1 - ln ratio: never negative, its mean estimates KL(sampling || training). */
  sumKl: number;
  /** Only where weights are taken. */
  weights?: { sum: number; numCapped: number };
}

export function emptyMismatch(): Mismatch {
  return { numTokens: 0, sum: 0, maxAbs: 0, sumKl: 0 };
}

/** The same as the loss saw it, before any update of the step. */
export function mismatchOf({ numTokens, sumKlK1, sumKlK3, maxAbsLogprobDiff }: LossStats): Mismatch {
  return { numTokens, sum: 0 - sumKlK1, maxAbs: maxAbsLogprobDiff, sumKl: sumKlK3 };
}

/**
 * Weighs each trained token of `batch` by min(p_training / p_sampling, cap) and makes `logprobs` what the ratio of the
 * loss begins at, so that clipping bounds the update alone and not the distance between the two. Returns `before` with
 * the batch added.
 */
export function correctMismatch(batch: PackedBatch, logprobs: Float32Array, cap: number, before: Mismatch): Mismatch {
  const weights = { sum: 0, numCapped: 0, ...before.weights };
  const after = { ...before, weights };
  const { lossWeights, behaviorLogprobs } = batch;
  for (const [t, weight] of lossWeights.entries()) {
    if (weight === 0) continue;
    const logprob = logprobs[t] as number;
    const difference = logprob - (behaviorLogprobs[t] as number);
    const ratio = Math.exp(difference);
    const importance = Math.min(ratio, cap);
    lossWeights[t] = weight * importance;
    behaviorLogprobs[t] = logprob;
    after.numTokens += 1;
    after.sum += difference;
    after.maxAbs = Math.max(after.maxAbs, Math.abs(difference));
    after.sumKl += ratio - 1 - difference;
    weights.sum += importance;
    weights.numCapped += ratio > cap ? 1 : 0;
  }
  return after;
}

export function mismatchMetrics(mismatch: Mismatch): Record<string, number> {
  const { numTokens, weights } = mismatch;
  if (numTokens === 0) return {};
  return {
    "mismatch/mean": mismatch.sum / numTokens,
    "mismatch/max": mismatch.maxAbs,
    "mismatch/kl": mismatch.sumKl / numTokens,
    ...(weights && {
      "mismatch/weight_mean": weights.sum / numTokens,
      "mismatch/capped": weights.numCapped / numTokens,
    }),
  };
}
