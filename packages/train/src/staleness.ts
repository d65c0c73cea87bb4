// How much older the weights were that sampled a token than those that train on it. Owns no correction.
import type { Segment } from "@wideseek/spec";
import type { TrainedGroup } from "./loop.ts";

/** Means and maximum over the trained tokens, in policy versions. */
export function stalenessMetrics(
  groups: readonly Pick<TrainedGroup, "episodes" | "advantages">[],
  policyVersion: bigint,
): Record<string, number> {
  let numTokens = 0;
  let numStale = 0;
  let sum = 0;
  let max = 0;
  const add = (segment: Segment): void => {
    if (segment.kind !== "sampled") return;
    const staleness = Number(policyVersion - segment.policyVersion);
    numTokens += segment.tokenIds.length;
    numStale += staleness > 0 ? segment.tokenIds.length : 0;
    sum += staleness * segment.tokenIds.length;
    max = Math.max(max, staleness);
  };
  for (const { episodes, advantages } of groups) {
    for (const [index, { trajectories }] of episodes.entries()) {
      if (!advantages.judged[index]) continue;
      for (const { segments } of trajectories) segments.forEach(add);
    }
  }
  if (numTokens === 0) return {};
  return {
    "policy/staleness_mean": sum / numTokens,
    "policy/staleness_max": max,
    "policy/stale_tokens": numStale / numTokens,
  };
}
