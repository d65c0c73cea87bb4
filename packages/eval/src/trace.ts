// An episode as people read it: text per segment, without token ids. Owns the line format of traces/*.jsonl.
import { type Episode, invalidInput, type RewardBreakdown, type Trajectory } from "@wideseek/spec";
import { z } from "zod";
import type { AgentResult, EpisodeResult } from "./episode-result.ts";
import { episodeResult } from "./episode-result.ts";

export interface TraceSegment {
  kind: "given" | "sampled";
  text: string;
  numTokens: number;
}

export interface AgentTrace extends AgentResult {
  /** The subtask for a subagent, the question otherwise. */
  prompt: string;
  segments: TraceSegment[];
  errors: string[];
}

export interface EpisodeTrace extends Omit<EpisodeResult, "agents"> {
  /** Where the episode belongs, e.g. "train step 12" or "held-out before". */
  origin: string;
  question: string;
  /** Null in an evaluation, which has no groups. */
  advantage: number | null;
  agents: AgentTrace[];
}

export interface TraceOptions {
  origin: string;
  advantage?: number | undefined;
  decode(tokenIds: Int32Array): string | Promise<string>;
}

async function agentTrace(
  trajectory: Trajectory,
  result: AgentResult,
  decode: TraceOptions["decode"],
): Promise<AgentTrace> {
  const segments: TraceSegment[] = [];
  for (const { kind, tokenIds } of trajectory.segments) {
    segments.push({ kind, text: await decode(tokenIds), numTokens: tokenIds.length });
  }
  return { ...result, prompt: trajectory.prompt, segments, errors: trajectory.errors };
}

/** Decodes every segment on its own; a character cut by a segment border shows as the tokenizer decodes it. */
export async function episodeTrace(
  episode: Episode,
  reward: RewardBreakdown,
  options: TraceOptions,
): Promise<EpisodeTrace> {
  const result = episodeResult(episode, reward);
  const agents: AgentTrace[] = [];
  for (const [index, trajectory] of episode.trajectories.entries()) {
    const counts = result.agents[index];
    if (counts) agents.push(await agentTrace(trajectory, counts, options.decode));
  }
  return {
    ...result,
    origin: options.origin,
    question: episode.task.question,
    advantage: options.advantage ?? null,
    agents,
  };
}

// Only what the report shows is checked; a trace may carry more.
const traceSchema = z.looseObject({
  instanceId: z.string(),
  sample: z.number(),
  seed: z.string(),
  workflow: z.enum(["mas", "sa"]),
  origin: z.string(),
  question: z.string(),
  answer: z.string(),
  seconds: z.number(),
  advantage: z.number().nullable(),
  reward: z.looseObject({ judged: z.boolean(), score: z.number(), total: z.number(), reason: z.string() }),
  agents: z
    .array(
      z.looseObject({
        agentId: z.string(),
        role: z.enum(["lead", "subagent", "single"]),
        prompt: z.string(),
        stopReason: z.string(),
        numTurns: z.number(),
        errors: z.array(z.string()),
        segments: z.array(
          z.looseObject({ kind: z.enum(["given", "sampled"]), text: z.string(), numTokens: z.number() }),
        ),
      }),
    )
    .min(1),
});

/** @throws WS_INVALID_ARGUMENT naming `where` and the key */
export function parseEpisodeTrace(value: unknown, where: string): EpisodeTrace {
  const parsed = traceSchema.safeParse(value);
  if (!parsed.success) throw invalidInput(where, parsed.error);
  return parsed.data as unknown as EpisodeTrace;
}
