// One attempt at one question: what every agent saw and said, token by token.
import type { Task } from "./task.ts";

export type Role = "lead" | "subagent" | "single";

/** A run of tokens with one origin. Given tokens are never trained; sampled ones carry their log-probabilities. */
export type Segment =
  | { kind: "given"; tokenIds: Int32Array }
  | { kind: "sampled"; tokenIds: Int32Array; logprobs: Float32Array; policyVersion: bigint };

/** Why an agent stopped. Only "answered" is a success. */
export type StopReason = "answered" | "context" | "turns" | "timeout" | "error";

/** One agent's append-only history: the concatenated segments are exactly what the model saw. */
export interface Trajectory {
  /** "lead", "single", or "1", "2", ... in the order of creation. */
  agentId: string;
  role: Role;
  /** The subtask for a subagent, the question otherwise. */
  prompt: string;
  segments: Segment[];
  stopReason: StopReason;
  numTurns: number;
  numSubagentCalls: number;
  numSearches: number;
  numAccesses: number;
  /** Tool calls the model got wrong and was told so. */
  numMalformedCalls: number;
  /** Text after the last `</think>` of the last turn, without end token. */
  answer: string;
  /** What went wrong on the way, one line each. */
  errors: string[];
}

export interface Episode {
  task: Task;
  /** Index within the group. */
  sample: number;
  seed: bigint;
  workflow: "mas" | "sa";
  /** The lead (or single agent) first, then its subagents in order of creation. */
  trajectories: Trajectory[];
  seconds: number;
}

/** All token ids of a trajectory in order. */
export function trajectoryTokenIds(trajectory: Trajectory): Int32Array {
  const tokenIds = new Int32Array(trajectory.segments.reduce((sum, segment) => sum + segment.tokenIds.length, 0));
  let offset = 0;
  for (const segment of trajectory.segments) {
    tokenIds.set(segment.tokenIds, offset);
    offset += segment.tokenIds.length;
  }
  return tokenIds;
}

export function numSampledTokens(trajectory: Trajectory): number {
  return trajectory.segments.reduce(
    (sum, segment) => sum + (segment.kind === "sampled" ? segment.tokenIds.length : 0),
    0,
  );
}
