// Group-relative advantages: one number per episode of a group. Owns no rewards.
import { type RewardBreakdown, WideSeekError } from "@wideseek/spec";

/** Added to the standard deviation (WideSeek-R1 and torch implementations of GRPO). */
const EPSILON = 1e-6;

export interface AdvantageOptions {
  /** Divide the squares by n - 1 ("sample", as published) or n ("population"). */
  std?: "sample" | "population";
}

/** What the episodes of one group are worth relative to each other. */
export interface GroupAdvantages {
  /** One per episode; sums to 0; 0 where `judged` is false. */
  values: readonly number[];
  /** False = the judge could not answer: the episode belongs to no group. */
  judged: readonly boolean[];
  /** All judged rewards are equal (or at most one was judged): nothing can be learned, every value is 0. */
  zeroVariance: boolean;
  mean: number;
  std: number;
}

/**
 * (R - mean) / (std + 1e-6) over the judged episodes of one question (reference: GRPO, mode "trajectory").
 * @throws WS_INVALID_ARGUMENT for a reward that is not finite.
 */
export function groupAdvantages(
  rewards: readonly RewardBreakdown[] | readonly number[],
  options: AdvantageOptions = {},
): GroupAdvantages {
  const judged = rewards.map((reward) => typeof reward === "number" || reward.judged);
  const totals = rewards.map((reward) => (typeof reward === "number" ? reward : reward.total));
  const kept = totals.filter((_, index) => judged[index]);
  const bad = kept.find((total) => !Number.isFinite(total));
  if (bad !== undefined) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `groupAdvantages: reward ${bad}; every reward must be finite`, {
      op: "groupAdvantages",
    });
  }
  const mean = kept.reduce((sum, total) => sum + total, 0) / Math.max(1, kept.length);
  // Compared exactly: rounding in the mean must not turn equal rewards into advantages.
  if (kept.every((total) => total === kept[0])) {
    return { values: totals.map(() => 0), judged, zeroVariance: true, mean, std: 0 };
  }
  const squares = kept.reduce((sum, total) => sum + (total - mean) ** 2, 0);
  const std = Math.sqrt(squares / (options.std === "population" ? kept.length : kept.length - 1));
  const values = totals.map((total, index) => (judged[index] ? (total - mean) / (std + EPSILON) : 0));
  return { values, judged, zeroVariance: false, mean, std };
}
