// What a step's episodes looked like, in numbers. Owns no policy statistics.
import {
  type Episode,
  numSampledTokens,
  type RewardBreakdown,
  type StopReason,
  type Trajectory,
  trajectoryTokenIds,
} from "@wideseek/spec";

const STOP_REASONS: readonly StopReason[] = ["answered", "context", "turns", "timeout", "error"];
/** Length of the token runs that repetition is measured on. */
const NGRAM = 4;
/** Below this share of different runs a text counts as a loop. */
const MIN_DISTINCT = 0.3;
/** Shorter texts repeat nothing worth a warning. */
const MIN_TOKENS = 64;

/** Means over the judged episodes, under TensorBoard tags. */
export function rewardMetrics(rewards: readonly RewardBreakdown[]): Record<string, number> {
  const judged = rewards.filter((reward) => reward.judged);
  const tables = judged.flatMap((reward) => (reward.table ? [reward.table] : []));
  const answers = judged.flatMap((reward) => (reward.qa ? [reward.qa] : []));
  const totals = judged.map((reward) => reward.total);
  return {
    "reward/mean": mean(totals),
    "reward/std": standardDeviation(totals),
    "reward/min": least(totals),
    "reward/max": most(totals),
    "reward/score": mean(judged.map((reward) => reward.score)),
    "reward/format": mean(judged.map((reward) => reward.formatReward)),
    "reward/tool": mean(judged.map((reward) => reward.toolReward)),
    "reward/length_penalty": mean(judged.map((reward) => reward.lengthPenalty)),
    "reward/unjudged": rewards.length - judged.length,
    ...(tables.length > 0 && {
      "table/item_f1": mean(tables.map((table) => table.itemF1)),
      "table/item_precision": mean(tables.map((table) => table.itemPrecision)),
      "table/item_recall": mean(tables.map((table) => table.itemRecall)),
      "table/row_f1": mean(tables.map((table) => table.rowF1)),
      "table/success": mean(tables.map((table) => table.success)),
    }),
    ...(answers.length > 0 && {
      "qa/exact_match": mean(answers.map((answer) => answer.exactMatch)),
      "qa/token_f1": mean(answers.map((answer) => answer.tokenF1)),
    }),
  };
}

/** Behaviour per episode and per agent: turns, tools, stop reasons, lengths, signs of degenerate text. */
export function episodeMetrics(episodes: readonly Episode[]): Record<string, number> {
  const agents = episodes.flatMap((episode) => episode.trajectories);
  const leads = agents.filter((agent) => agent.role !== "subagent");
  const subagents = agents.filter((agent) => agent.role === "subagent");
  const perEpisode = (count: (agent: Trajectory) => number): number =>
    mean(episodes.map((episode) => episode.trajectories.reduce((sum, agent) => sum + count(agent), 0)));
  const sampled = agents.map(numSampledTokens);
  return {
    "episode/subagents": subagents.length / Math.max(1, episodes.length),
    "episode/subagent_calls": perEpisode((agent) => agent.numSubagentCalls),
    "episode/searches": perEpisode((agent) => agent.numSearches),
    "episode/accesses": perEpisode((agent) => agent.numAccesses),
    "episode/malformed_calls": perEpisode((agent) => agent.numMalformedCalls),
    "episode/errors": perEpisode((agent) => agent.errors.length),
    "episode/seconds": mean(episodes.map((episode) => episode.seconds)),
    "turns/lead": mean(leads.map((agent) => agent.numTurns)),
    "turns/subagent": mean(subagents.map((agent) => agent.numTurns)),
    ...stopShares("lead", leads),
    ...stopShares("subagent", subagents),
    "length/response_mean": mean(sampled),
    "length/response_max": most(sampled),
    "length/lead_response_mean": mean(leads.map(numSampledTokens)),
    "length/trajectory_mean": mean(agents.map(numTokens)),
    "length/trajectory_max": most(agents.map(numTokens)),
    "degenerate/empty_answers": mean(leads.map((agent) => (agent.answer.trim() === "" ? 1 : 0))),
    "degenerate/repetitive": mean(agents.map((agent) => (isRepetitive(agent) ? 1 : 0))),
    "degenerate/duplicate_leads": duplicateShare(leads),
  };
}

function stopShares(role: string, agents: readonly Trajectory[]): Record<string, number> {
  if (agents.length === 0) return {};
  return Object.fromEntries(
    STOP_REASONS.map((reason) => [
      `stop_${role}/${reason}`,
      mean(agents.map((agent) => (agent.stopReason === reason ? 1 : 0))),
    ]),
  );
}

/** True when one of the sampled segments says the same few tokens over and over. */
export function isRepetitive(trajectory: Trajectory): boolean {
  return trajectory.segments.some((segment) => {
    if (segment.kind !== "sampled" || segment.tokenIds.length < MIN_TOKENS) return false;
    const numRuns = segment.tokenIds.length - NGRAM + 1;
    const runs = new Set(Array.from({ length: numRuns }, (_, t) => segment.tokenIds.subarray(t, t + NGRAM).join()));
    return runs.size < MIN_DISTINCT * numRuns;
  });
}

/** Share of leads whose whole history another lead repeats: exploration has ended where it is near 1. */
function duplicateShare(leads: readonly Trajectory[]): number {
  const distinct = new Set(leads.map((lead) => trajectoryTokenIds(lead).join()));
  return leads.length === 0 ? 0 : 1 - distinct.size / leads.length;
}

function numTokens(trajectory: Trajectory): number {
  return trajectory.segments.reduce((sum, segment) => sum + segment.tokenIds.length, 0);
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardDeviation(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - center) ** 2)));
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), values[0] ?? 0);
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), values[0] ?? 0);
}
