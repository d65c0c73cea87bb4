// Episodes to packed batches with per-token loss weights. Whole trajectories only; owns no device.
import { type Episode, numSampledTokens, type PackedBatch, type Trajectory, WideSeekError } from "@wideseek/spec";
import type { GroupAdvantages } from "./advantages.ts";

/** A sequence waiting for a place in a micro-batch. */
export interface WeightedTrajectory {
  trajectory: Trajectory;
  /** Weight of each of its sampled tokens in the loss. */
  weight: number;
  advantage: number;
}

export interface PackOptions {
  /** Most tokens of a micro-batch; a longer trajectory is an error, nothing is ever cut here. */
  maxTokens: number;
  /** Trained groups of the optimizer step; each group counts 1/numGroups. Default 1. */
  numGroups?: number;
  /** Weights that must have sampled every token; default: those of the first sampled segment. */
  policyVersion?: bigint;
  /** Older weights may have sampled tokens too: the ratio of the loss corrects for it. */
  allowStale?: boolean;
}

/** The episodes of one question with their advantages. */
export interface ScoredGroup {
  episodes: readonly Episode[];
  advantages: GroupAdvantages | readonly number[];
}

const ROLE_ORDER = { lead: 0, single: 0, subagent: 1 } as const;

/**
 * Packs the episodes of one group. Weight of a sampled token: 1/(numGroups * G * N_i * S_a), with G the judged episodes
 * of the group, N_i the agents of its episode that sampled something, S_a that agent's sampled tokens (WideSeek-R1,
 * training objective). Unjudged episodes are left out.
 * @throws WS_INVALID_ARGUMENT if one trajectory alone is longer than `maxTokens`, or lengths differ
 * @throws WS_INVALID_STATE if tokens were sampled by different weights
 */
export function packEpisodes(
  episodes: readonly Episode[],
  advantages: GroupAdvantages | readonly number[],
  options: PackOptions,
): PackedBatch[] {
  return packTrajectories(weighEpisodes(episodes, advantages, options), options);
}

/** Packs all groups of an optimizer step together, each with weight 1 / number of groups. */
export function packGroups(groups: readonly ScoredGroup[], options: PackOptions): PackedBatch[] {
  const numGroups = options.numGroups ?? groups.length;
  const items = groups.flatMap((group) => weighEpisodes(group.episodes, group.advantages, { ...options, numGroups }));
  return packTrajectories(items, options);
}

function weighEpisodes(
  episodes: readonly Episode[],
  advantages: GroupAdvantages | readonly number[],
  { numGroups = 1 }: PackOptions,
): WeightedTrajectory[] {
  const { values, judged } = isPlain(advantages)
    ? { values: advantages, judged: advantages.map(() => true) }
    : advantages;
  if (values.length !== episodes.length) {
    throw invalid(`${episodes.length} episodes but ${values.length} advantages`);
  }
  const groupSize = judged.filter(Boolean).length;
  const items = episodes.flatMap((episode, index) => {
    const agents = judged[index] ? episode.trajectories.filter((trajectory) => numSampledTokens(trajectory) > 0) : [];
    return agents.map((trajectory) => ({
      trajectory,
      weight: 1 / (numGroups * groupSize * agents.length * numSampledTokens(trajectory)),
      advantage: values[index] ?? 0,
    }));
  });
  // Leads first, then subagents: trajectories with a common prefix come to lie in one batch, where it is computed once.
  return items.sort((a, b) => ROLE_ORDER[a.trajectory.role] - ROLE_ORDER[b.trajectory.role]);
}

/** First-fit in the given order into batches of at most `maxTokens`. The sum of the losses does not depend on it. */
export function packTrajectories(
  items: readonly WeightedTrajectory[],
  { maxTokens, policyVersion, allowStale = false }: Pick<PackOptions, "maxTokens" | "policyVersion" | "allowStale">,
): PackedBatch[] {
  checkVersions(items, policyVersion, allowStale);
  const bins: { numTokens: number; items: WeightedTrajectory[] }[] = [];
  for (const item of items) {
    const numTokens = countTokens(item.trajectory);
    if (numTokens > maxTokens) {
      throw invalid(
        `the trajectory of agent ${item.trajectory.agentId} has ${numTokens} tokens, a batch holds ${maxTokens}; ` +
          "raise train.maxTokens or lower agents.limits.maxContextTokens",
        { numTokens, maxTokens },
      );
    }
    let bin = bins.find((candidate) => candidate.numTokens + numTokens <= maxTokens);
    if (!bin) {
      bin = { numTokens: 0, items: [] };
      bins.push(bin);
    }
    bin.numTokens += numTokens;
    bin.items.push(item);
  }
  return bins.map((bin) => fillBatch(bin.items, bin.numTokens));
}

function fillBatch(items: readonly WeightedTrajectory[], numTokens: number): PackedBatch {
  const batch = {
    tokenIds: new Int32Array(numTokens),
    cuSeqlens: new Int32Array(items.length + 1),
    lossWeights: new Float32Array(numTokens),
    advantages: new Float32Array(numTokens),
    behaviorLogprobs: new Float32Array(numTokens),
  };
  let offset = 0;
  items.forEach(({ trajectory, weight, advantage }, index) => {
    const start = offset;
    for (const segment of trajectory.segments) {
      const end = offset + segment.tokenIds.length;
      batch.tokenIds.set(segment.tokenIds, offset);
      if (segment.kind === "sampled") {
        batch.lossWeights.fill(weight, offset, end);
        batch.behaviorLogprobs.set(segment.logprobs, offset);
      }
      offset = end;
    }
    batch.advantages.fill(advantage, start, offset);
    batch.cuSeqlens[index + 1] = offset;
  });
  return batch;
}

function checkVersions(
  items: readonly WeightedTrajectory[],
  policyVersion: bigint | undefined,
  allowStale: boolean,
): void {
  let expected = policyVersion;
  for (const { trajectory } of items) {
    if (trajectory.segments[0]?.kind === "sampled") {
      throw invalid(`agent ${trajectory.agentId} begins with sampled tokens; nothing predicts the first token`);
    }
    for (const segment of trajectory.segments) {
      if (segment.kind !== "sampled") continue;
      if (allowStale && (policyVersion === undefined || segment.policyVersion <= policyVersion)) continue;
      expected ??= segment.policyVersion;
      if (segment.policyVersion !== expected) {
        throw new WideSeekError(
          "WS_INVALID_STATE",
          `packEpisodes: agent ${trajectory.agentId} has tokens sampled by version ${segment.policyVersion} of the ` +
            `policy, expected version ${expected}; do not train while episodes are running`,
          { op: "packEpisodes", details: { expected, got: segment.policyVersion } },
        );
      }
    }
  }
}

function countTokens(trajectory: Trajectory): number {
  return trajectory.segments.reduce((sum, segment) => sum + segment.tokenIds.length, 0);
}

function isPlain(advantages: GroupAdvantages | readonly number[]): advantages is readonly number[] {
  return Array.isArray(advantages);
}

function invalid(message: string, details: Record<string, unknown> = {}): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", `packEpisodes: ${message}`, { op: "packEpisodes", details });
}
