// Costs of an evaluation's episodes: tokens, turns, subagents, tool calls, why agents stopped.
import type { StopReason } from "@wideseek/spec";
import type { AgentResult, EpisodeResult } from "./episode-result.ts";

/** Means per episode unless the name says otherwise. Episodes without judgement count here too: they cost the same. */
export interface EpisodeStatistics {
  numEpisodes: number;
  sampledTokens: number;
  leadSampledTokens: number;
  subagentSampledTokens: number;
  /** Longest history of any agent of the episode. */
  maxContextTokens: number;
  leadTurns: number;
  turnsPerSubagent: number;
  numSubagents: number;
  numSearches: number;
  numAccesses: number;
  numMalformedCalls: number;
  seconds: number;
  /** Episodes whose lead or single agent stopped for this reason. */
  leadStopReasons: Partial<Record<StopReason, number>>;
  subagentStopReasons: Partial<Record<StopReason, number>>;
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function ratio(total: number, count: number): number {
  return count === 0 ? 0 : total / count;
}

function countStopReasons(agents: readonly AgentResult[]): Partial<Record<StopReason, number>> {
  const counts: Partial<Record<StopReason, number>> = {};
  for (const agent of agents) counts[agent.stopReason] = (counts[agent.stopReason] ?? 0) + 1;
  return counts;
}

export function episodeStatistics(results: readonly EpisodeResult[]): EpisodeStatistics {
  const numEpisodes = results.length;
  const agents = results.flatMap((result) => result.agents);
  const leads = agents.filter((agent) => agent.role !== "subagent");
  const subagents = agents.filter((agent) => agent.role === "subagent");
  const perEpisode = (items: readonly AgentResult[], value: (agent: AgentResult) => number): number =>
    ratio(sum(items, value), numEpisodes);
  return {
    numEpisodes,
    sampledTokens: perEpisode(agents, (agent) => agent.numSampledTokens),
    leadSampledTokens: perEpisode(leads, (agent) => agent.numSampledTokens),
    subagentSampledTokens: perEpisode(subagents, (agent) => agent.numSampledTokens),
    maxContextTokens: ratio(
      sum(results, (result) => Math.max(...result.agents.map((agent) => agent.numContextTokens))),
      numEpisodes,
    ),
    leadTurns: perEpisode(leads, (agent) => agent.numTurns),
    turnsPerSubagent: ratio(
      sum(subagents, (agent) => agent.numTurns),
      subagents.length,
    ),
    numSubagents: ratio(subagents.length, numEpisodes),
    numSearches: perEpisode(agents, (agent) => agent.numSearches),
    numAccesses: perEpisode(agents, (agent) => agent.numAccesses),
    numMalformedCalls: perEpisode(agents, (agent) => agent.numMalformedCalls),
    seconds: ratio(
      sum(results, (result) => result.seconds),
      numEpisodes,
    ),
    leadStopReasons: countStopReasons(leads),
    subagentStopReasons: countStopReasons(subagents),
  };
}
