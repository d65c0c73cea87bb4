// One attempt at one question: what every agent saw and said, token by token, or message by message where tokens stay
// with the model.
import type { Task } from "./task.ts";

export type Role = "lead" | "subagent" | "single";

/** A run of tokens with one origin. Given tokens are never trained; sampled ones carry their log-probabilities. */
export type Segment =
  | { kind: "given"; tokenIds: Int32Array }
  | { kind: "sampled"; tokenIds: Int32Array; logprobs: Float32Array; policyVersion: bigint };

/** A piece of an agent's conversation with a model that is spoken to in texts. It can be read, not trained on. */
export type TextSegment =
  | { kind: "given"; text: string }
  /** One call of the model: the tokens it wrote, and those of the whole prompt it read for that. */
  | { kind: "sampled"; text: string; numTokens: number; numPromptTokens: number };

/** How often an agent called what it has, by the kind of call. */
export interface CallCounts {
  numSubagentCalls: number;
  numSearches: number;
  numAccesses: number;
}

/** One call of an agent's model, and what the agent asked for in it. */
export interface TurnFacts extends CallCounts {
  /** Tokens of the whole prompt. */
  numPromptTokens: number;
  /** Tokens that the model wrote. */
  numTokens: number;
  /** The model was stopped at a limit before it had ended its turn. */
  cutOff: boolean;
}

/** Why an agent stopped. Only "answered" is a success. */
export type StopReason = "answered" | "context" | "turns" | "timeout" | "error";

/** One agent's append-only history: the concatenated segments are exactly what the model saw. */
export interface Trajectory extends CallCounts {
  /** "lead", "single", or "1", "2", ... in the order of creation. */
  agentId: string;
  role: Role;
  /** The subtask for a subagent, the question otherwise. */
  prompt: string;
  segments: Segment[];
  /** Set instead of `segments`, which are then empty, for an agent whose model is spoken to in texts. */
  transcript?: TextSegment[] | undefined;
  stopReason: StopReason;
  numTurns: number;
  /** One for each turn; absent where nobody kept them. */
  turns?: TurnFacts[] | undefined;
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

/** An agent at a turn boundary: before it samples, or before the calls of the turn that it sampled last are run. */
export interface AgentState {
  /** Its `stopReason` means something only when the agent has ended. */
  trajectory: Trajectory;
  ended: boolean;
  /** The last text outside thinking and calls that it wrote in any turn. */
  findings: string;
  /** It has been told that the coming turn is its last. */
  lastTurn: boolean;
  /** The last turn filled its tokens without an end. */
  cutOff: boolean;
}

/** An episode that was stopped at turn boundaries. It goes on from its token ids, under any later weights. */
export interface PausedEpisode extends Omit<Episode, "trajectories"> {
  paused: true;
  /** The lead (or single agent) first, then its subagents in order of creation. */
  agents: AgentState[];
}

export function isPaused(episode: Episode | PausedEpisode): episode is PausedEpisode {
  return "paused" in episode;
}

/** A turn that has just been sampled; its calls are counted when they have run. */
export function beginTurn(trajectory: Trajectory, facts: Omit<TurnFacts, keyof CallCounts>): void {
  trajectory.turns ??= [];
  trajectory.turns.push({ ...facts, numSubagentCalls: 0, numSearches: 0, numAccesses: 0 });
}

/** Adds calls to those of the agent and of its last turn. */
export function countCalls(trajectory: Trajectory, calls: Partial<CallCounts>): void {
  const turn = trajectory.turns?.at(-1);
  for (const counts of turn === undefined ? [trajectory] : [trajectory, turn]) {
    counts.numSubagentCalls += calls.numSubagentCalls ?? 0;
    counts.numSearches += calls.numSearches ?? 0;
    counts.numAccesses += calls.numAccesses ?? 0;
  }
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
  const ids = trajectory.segments.reduce(
    (sum, segment) => sum + (segment.kind === "sampled" ? segment.tokenIds.length : 0),
    0,
  );
  return modelCalls(trajectory).reduce((sum, call) => sum + call.numTokens, ids);
}

/** Tokens of the longest context that the agent's model had, what it wrote included. */
export function numContextTokens(trajectory: Trajectory): number {
  const ids = trajectory.segments.reduce((sum, segment) => sum + segment.tokenIds.length, 0);
  return modelCalls(trajectory).reduce((most, call) => Math.max(most, call.numPromptTokens + call.numTokens), ids);
}

/** Tokens that the agent's model read, the prompts of all its calls together. */
export function numPromptTokens(trajectory: Trajectory): number {
  let history = 0;
  let total = 0;
  let wasSampled = false;
  for (const { kind, tokenIds } of trajectory.segments) {
    // One call may be kept as several sampled segments, when several versions of the weights wrote it.
    if (kind === "sampled" && !wasSampled) total += history;
    wasSampled = kind === "sampled";
    history += tokenIds.length;
  }
  return modelCalls(trajectory).reduce((sum, call) => sum + call.numPromptTokens, total);
}

/** Tokens of the agent's longest turn. A turn that several policy versions wrote is still one turn. */
export function longestTurnTokens(trajectory: Trajectory): number {
  let longest = 0;
  let turn = 0;
  for (const { kind, tokenIds } of trajectory.segments) {
    turn = kind === "sampled" ? turn + tokenIds.length : 0;
    longest = Math.max(longest, turn);
  }
  return modelCalls(trajectory).reduce((most, call) => Math.max(most, call.numTokens), longest);
}

function modelCalls({ transcript = [] }: Trajectory): Extract<TextSegment, { kind: "sampled" }>[] {
  return transcript.filter((segment) => segment.kind === "sampled");
}
