// What an evaluation keeps of a finished episode: scores and counts, JSON-safe. Owns the line format of the resume file.
import {
  type Episode,
  invalidInput,
  longestTurnTokens,
  numContextTokens,
  numPromptTokens,
  numSampledTokens,
  type RewardBreakdown,
  type Role,
  type StopReason,
  type Task,
  type Trajectory,
  type TurnFacts,
} from "@wideseek/spec";
import { z } from "zod";

export interface AgentResult {
  agentId: string;
  role: Role;
  stopReason: StopReason;
  numTurns: number;
  numSampledTokens: number;
  /** Tokens of the longest context, given and sampled. */
  numContextTokens: number;
  /** Tokens that its model read, the prompts of all calls together. */
  numPromptTokens: number;
  /** Tokens of its longest turn, which the reward depends on. */
  longestTurnTokens: number;
  numSubagentCalls: number;
  numSearches: number;
  numAccesses: number;
  numMalformedCalls: number;
  /** One for each turn; absent where nobody kept them. */
  turns?: TurnFacts[] | undefined;
  /** What went wrong on the way, at most 50 lines. */
  errors: string[];
}

export interface EpisodeResult {
  instanceId: string;
  sample: number;
  /** Unsigned 64 bits in decimal: JSON has no bigint. */
  seed: string;
  workflow: Episode["workflow"];
  reward: RewardBreakdown;
  answer: string;
  seconds: number;
  /** The lead or single agent first. */
  agents: AgentResult[];
}

/** What an evaluation keeps in memory of an episode; the rest lies in the resume file. */
export interface EpisodeScore {
  sample: number;
  reward: RewardBreakdown;
  seconds: number;
  /** How the lead or single agent ended. */
  stopReason: StopReason;
  /** Of the lead or single agent. */
  numTurns: number;
}

export function episodeScore({ sample, reward, seconds, agents }: EpisodeResult): EpisodeScore {
  const [first] = agents;
  return { sample, reward, seconds, stopReason: first?.stopReason ?? "error", numTurns: first?.numTurns ?? 0 };
}

const count: z.ZodType<number> = z.number().int().nonnegative();
const turnSchema: z.ZodType<TurnFacts> = z.strictObject({
  numPromptTokens: count,
  numTokens: count,
  cutOff: z.boolean(),
  numSubagentCalls: count,
  numSearches: count,
  numAccesses: count,
});
const agentSchema: z.ZodType<AgentResult> = z.strictObject({
  agentId: z.string(),
  role: z.enum(["lead", "subagent", "single"]),
  stopReason: z.enum(["answered", "context", "turns", "timeout", "error"]),
  numTurns: count,
  numSampledTokens: count,
  numContextTokens: count,
  numPromptTokens: count,
  longestTurnTokens: count,
  numSubagentCalls: count,
  numSearches: count,
  numAccesses: count,
  numMalformedCalls: count,
  turns: z.array(turnSchema).optional(),
  errors: z.array(z.string()),
});
const tableSchema = z.strictObject({
  itemPrecision: z.number(),
  itemRecall: z.number(),
  itemF1: z.number(),
  rowPrecision: z.number(),
  rowRecall: z.number(),
  rowF1: z.number(),
  success: z.number(),
});
const rewardSchema = z.strictObject({
  judged: z.boolean(),
  score: z.number(),
  table: tableSchema.optional(),
  qa: z.strictObject({ exactMatch: z.number(), tokenF1: z.number() }).optional(),
  formatReward: z.number(),
  toolReward: z.number(),
  lengthPenalty: z.number(),
  total: z.number(),
  reason: z.string(),
});
const resultSchema: z.ZodType<EpisodeResult> = z.strictObject({
  instanceId: z.string(),
  sample: count,
  seed: z.string().regex(/^\d+$/),
  workflow: z.enum(["mas", "sa"]),
  reward: rewardSchema,
  answer: z.string(),
  seconds: z.number(),
  agents: z.array(agentSchema).min(1),
});

const MAX_ERRORS = 50;
const MAX_ERROR_CHARACTERS = 500;

function agentResult(trajectory: Trajectory): AgentResult {
  return {
    agentId: trajectory.agentId,
    role: trajectory.role,
    stopReason: trajectory.stopReason,
    numTurns: trajectory.numTurns,
    numSampledTokens: numSampledTokens(trajectory),
    numContextTokens: numContextTokens(trajectory),
    numPromptTokens: numPromptTokens(trajectory),
    longestTurnTokens: longestTurnTokens(trajectory),
    numSubagentCalls: trajectory.numSubagentCalls,
    numSearches: trajectory.numSearches,
    numAccesses: trajectory.numAccesses,
    numMalformedCalls: trajectory.numMalformedCalls,
    ...(trajectory.turns !== undefined && { turns: trajectory.turns }),
    errors: trajectory.errors.slice(0, MAX_ERRORS).map((error) => error.slice(0, MAX_ERROR_CHARACTERS)),
  };
}

export function episodeResult(episode: Episode, reward: RewardBreakdown): EpisodeResult {
  return {
    instanceId: episode.task.instanceId,
    sample: episode.sample,
    seed: episode.seed.toString(),
    workflow: episode.workflow,
    reward,
    answer: episode.trajectories[0]?.answer ?? "",
    seconds: episode.seconds,
    agents: episode.trajectories.map(agentResult),
  };
}

/** The episode as far as scoring needs it: the answer, how agents ended, what they used; not what was said. */
export function episodeToJudge(
  task: Task,
  { sample, seed, workflow, answer, seconds, agents }: EpisodeResult,
): Episode {
  const trajectories = agents.map((agent, index): Trajectory => {
    const { longestTurnTokens: numTokens, ...counts } = agent;
    const transcript = [{ kind: "sampled", text: "", numTokens, numPromptTokens: 0 }] as const;
    const prompt = index === 0 ? task.question : "";
    return { ...counts, prompt, answer: index === 0 ? answer : "", segments: [], transcript: [...transcript] };
  });
  return { task, sample, seed: BigInt(seed), workflow, trajectories, seconds };
}

/** @throws WS_INVALID_ARGUMENT naming `where` and the key */
export function parseEpisodeResult(value: unknown, where: string): EpisodeResult {
  const parsed = resultSchema.safeParse(value);
  if (!parsed.success) throw invalidInput(where, parsed.error, value);
  return parsed.data;
}
