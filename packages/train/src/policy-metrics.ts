// What the training pass said about the policy, summed over micro-batches. Owns no device.
import type { LossStats, OptimizerStepResult } from "@wideseek/spec";

/** Sums of an empty set of batches. */
export function emptyStats(): LossStats {
  return {
    numTokens: 0,
    loss: 0,
    policyLoss: 0,
    sumRatio: 0,
    maxRatio: Number.NEGATIVE_INFINITY,
    minRatio: Number.POSITIVE_INFINITY,
    numClippedLow: 0,
    numClippedHigh: 0,
    numDualClipped: 0,
    sumKlK1: 0,
    sumKlK3: 0,
    sumRefKlK3: 0,
    sumEntropy: 0,
    sumNll: 0,
    maxAbsLogprobDiff: 0,
  };
}

export function addStats(a: LossStats, b: LossStats): LossStats {
  const sum = emptyStats();
  for (const key of Object.keys(sum) as (keyof LossStats)[]) sum[key] = a[key] + b[key];
  sum.maxRatio = Math.max(a.maxRatio, b.maxRatio);
  sum.minRatio = Math.min(a.minRatio, b.minRatio);
  sum.maxAbsLogprobDiff = Math.max(a.maxAbsLogprobDiff, b.maxAbsLogprobDiff);
  return sum;
}

/** Token means under TensorBoard tags; only the step's counts when nothing was trained. */
export function policyMetrics(
  stats: LossStats,
  update: OptimizerStepResult | null,
  learningRate: number,
): Record<string, number> {
  const common = { "train/tokens": stats.numTokens, "train/learning_rate": learningRate };
  if (update === null || stats.numTokens === 0) return { ...common, "train/skipped": 1 };
  const n = stats.numTokens;
  return {
    ...common,
    "train/loss": stats.loss,
    "train/policy_loss": stats.policyLoss,
    "train/grad_norm": update.gradNorm,
    "train/skipped": update.skipped ? 1 : 0,
    "policy/entropy": stats.sumEntropy / n,
    "policy/nll": stats.sumNll / n,
    "policy/kl_k1": stats.sumKlK1 / n,
    "policy/kl_k3": stats.sumKlK3 / n,
    "policy/ref_kl_k3": stats.sumRefKlK3 / n,
    "policy/ratio_mean": stats.sumRatio / n,
    "policy/ratio_max": stats.maxRatio,
    "policy/ratio_min": stats.minRatio,
    "policy/max_logprob_diff": stats.maxAbsLogprobDiff,
    "policy/clip_low": stats.numClippedLow / n,
    "policy/clip_high": stats.numClippedHigh / n,
    "policy/dual_clip": stats.numDualClipped / n,
  };
}
