// Costs of an evaluation's episodes: tokens, turns, subagents, tool calls, why agents stopped.
import type { StopReason } from "@wideseek/spec";
import type { AgentResult, EpisodeResult } from "./episode-result.ts";

/** Means per episode unless the name says otherwise. Episodes without judgement count here too: they cost the same. */
export interface EpisodeStatistics {
  numEpisodes: number;
  /** Calls of models: the turns of all agents. */
  modelCalls: number;
  /** Tokens that models read, the prompts of all calls together. */
  promptTokens: number;
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

/** Sums as episodes come, keeping none of them. */
export class StatisticsCounter {
  readonly #sums: Omit<EpisodeStatistics, "leadStopReasons" | "subagentStopReasons"> = {
    numEpisodes: 0,
    modelCalls: 0,
    promptTokens: 0,
    sampledTokens: 0,
    leadSampledTokens: 0,
    subagentSampledTokens: 0,
    maxContextTokens: 0,
    leadTurns: 0,
    turnsPerSubagent: 0,
    numSubagents: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    seconds: 0,
  };
  readonly #leadStopReasons: EpisodeStatistics["leadStopReasons"] = {};
  readonly #subagentStopReasons: EpisodeStatistics["subagentStopReasons"] = {};

  add(result: EpisodeResult): void {
    const sums = this.#sums;
    sums.numEpisodes++;
    sums.seconds += result.seconds;
    sums.maxContextTokens += Math.max(...result.agents.map((agent) => agent.numContextTokens));
    for (const agent of result.agents) {
      sums.modelCalls += agent.numTurns;
      sums.promptTokens += agent.numPromptTokens;
      sums.sampledTokens += agent.numSampledTokens;
      sums.numSearches += agent.numSearches;
      sums.numAccesses += agent.numAccesses;
      sums.numMalformedCalls += agent.numMalformedCalls;
      this.#addByRole(agent);
    }
  }

  #addByRole(agent: AgentResult): void {
    const sums = this.#sums;
    const reasons = agent.role === "subagent" ? this.#subagentStopReasons : this.#leadStopReasons;
    reasons[agent.stopReason] = (reasons[agent.stopReason] ?? 0) + 1;
    if (agent.role === "subagent") {
      sums.numSubagents++;
      sums.subagentSampledTokens += agent.numSampledTokens;
      sums.turnsPerSubagent += agent.numTurns;
    } else {
      sums.leadSampledTokens += agent.numSampledTokens;
      sums.leadTurns += agent.numTurns;
    }
  }

  statistics(): EpisodeStatistics {
    const { numEpisodes, turnsPerSubagent, numSubagents, ...sums } = this.#sums;
    const ratio = (total: number, count: number): number => (count === 0 ? 0 : total / count);
    const means = Object.fromEntries(
      Object.entries(sums).map(([name, total]) => [name, ratio(total, numEpisodes)]),
    ) as typeof sums;
    return {
      ...means,
      numEpisodes,
      turnsPerSubagent: ratio(turnsPerSubagent, numSubagents),
      numSubagents: ratio(numSubagents, numEpisodes),
      leadStopReasons: { ...this.#leadStopReasons },
      subagentStopReasons: { ...this.#subagentStopReasons },
    };
  }
}
