// How much an agent may do: the limits as a schema, and all arithmetic on turns and tokens.
import type { Role } from "@wideseek/spec";
import { z } from "zod";

const positive = (limit: number): z.ZodNumber => z.number().int().min(1).max(limit);

/** Defaults are the published ones (WideSeek-R1); where it has no limit, ours is named. */
export const limitsSchema: z.ZodObject<
  {
    leadTurns: z.ZodDefault<z.ZodNumber>;
    subagentTurns: z.ZodDefault<z.ZodNumber>;
    singleTurns: z.ZodDefault<z.ZodNumber>;
    maxSubagentsPerCall: z.ZodDefault<z.ZodNumber>;
    maxSubagents: z.ZodDefault<z.ZodNumber>;
    contextTokens: z.ZodDefault<z.ZodNumber>;
    contextTokensByRole: z.ZodDefault<
      z.ZodObject<
        {
          lead: z.ZodOptional<z.ZodNumber>;
          subagent: z.ZodOptional<z.ZodNumber>;
          single: z.ZodOptional<z.ZodNumber>;
        },
        z.core.$strict
      >
    >;
    maxNewTokensPerTurn: z.ZodOptional<z.ZodNumber>;
    answerReserveTokens: z.ZodDefault<z.ZodNumber>;
    episodeSeconds: z.ZodDefault<z.ZodNumber>;
  },
  z.core.$strict
> = z.strictObject({
  leadTurns: positive(10_000).default(10).describe("Turns of the lead agent."),
  subagentTurns: positive(10_000).default(20).describe("Turns of each subagent."),
  singleTurns: positive(10_000).default(50).describe("Turns of the single agent (workflow sa)."),
  maxSubagentsPerCall: positive(10_000)
    .default(10)
    .describe("Most subagents that one call of the lead starts; further ones are dropped and the lead is told."),
  maxSubagents: z
    .number()
    .int()
    .min(0)
    .max(1_000_000)
    .default(100)
    .describe(
      "Most subagents of a whole episode, the width of the team; the lead is told which subtasks were not run.",
    ),
  contextTokens: positive(10_000_000).default(32_000).describe("Tokens of one agent's context, prompt and all turns."),
  contextTokensByRole: z
    .strictObject({
      lead: positive(10_000_000).optional().describe("Context of the lead."),
      subagent: positive(10_000_000).optional().describe("Context of a subagent."),
      single: positive(10_000_000).optional().describe("Context of the single agent."),
    })
    .default({})
    .describe("Overrides contextTokens for one role."),
  maxNewTokensPerTurn: positive(10_000_000)
    .optional()
    .describe("Most tokens of one turn; left out, a turn may fill the context."),
  answerReserveTokens: z
    .number()
    .int()
    .min(0)
    .max(10_000_000)
    .default(2048)
    .describe("Tokens of the context that tool output must leave for the answer, at most a quarter of the context."),
  // setTimeout holds 2^31 - 1 milliseconds.
  episodeSeconds: z
    .number()
    .positive()
    .max(2_000_000)
    .default(1800)
    .describe("Seconds after which all agents of an episode stop with what they have."),
});

export type Limits = z.output<typeof limitsSchema>;
export type LimitsInput = z.input<typeof limitsSchema>;

/** What one agent may use. */
export interface AgentBudget {
  maxTurns: number;
  contextTokens: number;
  /** Tokens that tool output must leave free. */
  answerReserve: number;
}

/** @param maxContextTokens what the policy can hold, whatever the limits say */
export function agentBudget(limits: Limits, role: Role, maxContextTokens: number): AgentBudget {
  const turns = { lead: limits.leadTurns, subagent: limits.subagentTurns, single: limits.singleTurns };
  const contextTokens = Math.min(limits.contextTokensByRole[role] ?? limits.contextTokens, maxContextTokens);
  return {
    maxTurns: turns[role],
    contextTokens,
    answerReserve: Math.min(limits.answerReserveTokens, Math.floor(contextTokens / 4)),
  };
}

/** Tokens the next turn may have; 0 or less = the context is full. */
export function newTokensOfTurn(limits: Limits, budget: AgentBudget, numTokens: number): number {
  const room = budget.contextTokens - numTokens;
  return Math.min(room, limits.maxNewTokensPerTurn ?? room);
}

/** Most tokens of a tool response after which the agent can go on working. */
export function responseTokens(budget: AgentBudget, numTokens: number): number {
  return budget.contextTokens - numTokens - budget.answerReserve;
}

/** Most tokens of the last tool response: when thinking used up the reserve, half of what is left is for the answer. */
export function lastResponseTokens(budget: AgentBudget, numTokens: number): number {
  const room = budget.contextTokens - numTokens;
  return Math.max(room - budget.answerReserve, Math.floor(room / 2));
}
