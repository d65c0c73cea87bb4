// A recorded episode as the report shows it: the lines of a run's episodes.jsonl. Owns reading, not writing.
import { invalidInput, type RewardBreakdown, type Role, type StopReason } from "@wideseek/spec";
import { z } from "zod";

export interface SegmentTrace {
  kind: "given" | "sampled";
  /** Absent when the run kept token ids only. */
  text?: string | undefined;
  tokenIds?: number[] | undefined;
}

export interface AgentTrace {
  agentId: string;
  role: Role;
  /** The subtask for a subagent, the question otherwise. */
  prompt: string;
  stopReason: StopReason;
  numTurns: number;
  numSubagentCalls: number;
  numSearches: number;
  numAccesses: number;
  numMalformedCalls: number;
  answer: string;
  errors: string[];
  segments: SegmentTrace[];
}

export interface EpisodeTrace {
  step: number;
  task: { instanceId: string; question: string };
  sample: number;
  seed: string;
  workflow: "mas" | "sa";
  seconds: number;
  reward: RewardBreakdown;
  /** Absent in an evaluation, which has no groups. */
  advantage?: number | undefined;
  agents: AgentTrace[];
}

const scores = z.record(z.string(), z.number());
// Only what the report shows is checked; a line may carry more.
const traceSchema = z.looseObject({
  step: z.number(),
  task: z.looseObject({ instanceId: z.string(), question: z.string() }),
  sample: z.number(),
  seed: z.string(),
  workflow: z.enum(["mas", "sa"]),
  seconds: z.number(),
  reward: z.looseObject({
    judged: z.boolean(),
    score: z.number(),
    table: scores.optional(),
    qa: scores.optional(),
    total: z.number(),
    reason: z.string(),
  }),
  advantage: z.number().optional(),
  agents: z
    .array(
      z.looseObject({
        agentId: z.string(),
        role: z.enum(["lead", "subagent", "single"]),
        prompt: z.string(),
        stopReason: z.string(),
        numTurns: z.number(),
        answer: z.string(),
        errors: z.array(z.string()),
        segments: z.array(
          z.looseObject({
            kind: z.enum(["given", "sampled"]),
            text: z.string().optional(),
            tokenIds: z.array(z.number()).optional(),
          }),
        ),
      }),
    )
    .min(1),
});

/** @throws WS_INVALID_ARGUMENT naming `where` and the key */
export function parseEpisodeTrace(value: unknown, where: string): EpisodeTrace {
  const parsed = traceSchema.safeParse(value);
  if (!parsed.success) throw invalidInput(where, parsed.error, value);
  return parsed.data as unknown as EpisodeTrace;
}
