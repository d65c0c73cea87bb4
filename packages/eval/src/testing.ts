// Episodes and rewards for the tests of this package.
import type { Episode, RewardBreakdown, TableTask, Task, Trajectory } from "@wideseek/spec";

export function tableTask(instanceId: string): TableTask {
  return {
    kind: "table",
    instanceId,
    question: `Which rivers? ${instanceId}`,
    language: "en",
    answer: "| River |\n|---|\n| Elbe |",
    uniqueColumns: ["River"],
    requiredColumns: [],
  };
}

export function tableReward(itemF1: number, judged = true): RewardBreakdown {
  const success = itemF1 >= 1 ? 1 : 0;
  return {
    judged,
    score: itemF1,
    table: {
      itemPrecision: itemF1,
      itemRecall: itemF1,
      itemF1,
      rowPrecision: itemF1 / 2,
      rowRecall: itemF1 / 2,
      rowF1: itemF1 / 2,
      success,
    },
    formatReward: 0.1,
    toolReward: 0,
    lengthPenalty: 0,
    total: itemF1 + 0.1,
    reason: "rule judge",
  };
}

export function trajectory(agentId: string, role: Trajectory["role"], answer: string): Trajectory {
  return {
    agentId,
    role,
    prompt: `prompt of ${agentId}`,
    segments: [
      { kind: "given", tokenIds: Int32Array.of(1, 2, 3) },
      { kind: "sampled", tokenIds: Int32Array.of(4, 5), logprobs: Float32Array.of(-1, -2), policyVersion: 0n },
    ],
    stopReason: "answered",
    numTurns: role === "subagent" ? 3 : 2,
    numSubagentCalls: role === "lead" ? 1 : 0,
    numSearches: role === "subagent" ? 2 : 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer,
    errors: [],
  };
}

export function episodeOf(task: Task, sample: number, seed: bigint): Episode {
  return {
    task,
    sample,
    seed,
    workflow: "mas",
    trajectories: [trajectory("lead", "lead", "| River |"), trajectory("1", "subagent", "Elbe")],
    seconds: 0.5,
  };
}
