// Everything the agents are told, chosen by style and language. Owns which texts there are; their wording lives in
// prompts-en.ts and prompts-zh.ts.
import type { Language, Role, StopReason, Task, ToolDefinition } from "@wideseek/spec";
import { z } from "zod";
import { compactTextsEn, fullTextsEn } from "./prompts-en.ts";
import { compactTextsZh, fullTextsZh } from "./prompts-zh.ts";

/** "full" for real models, "compact" for models of a few million parameters. */
export const promptStyleSchema: z.ZodEnum<{ full: "full"; compact: "compact" }> = z.enum(["full", "compact"]);
export type PromptStyle = z.output<typeof promptStyleSchema>;

/** "task" = the language of the question. */
export const promptLanguageSchema: z.ZodEnum<{ task: "task"; en: "en"; zh: "zh" }> = z.enum(["task", "en", "zh"]);
export type PromptLanguage = z.output<typeof promptLanguageSchema>;

/** Language of what agents and tools say about a question. */
export function promptLanguage(task: Task, setting: PromptLanguage): Language {
  return setting === "task" ? task.language : setting;
}

/** The texts of one style in one language. */
export interface AgentTexts {
  systemPrompt(role: Role, kind: Task["kind"]): string;
  /** `subtask` is set for a subagent only. */
  userMessage(role: Role, question: string, subtask: string): string;
  /** Added to the user message; empty = nothing. */
  firstTurn(maxTurns: number): string;
  /** Added to a tool response; empty = nothing. `turn` is the coming one, from 1. */
  nextTurn(turn: number, maxTurns: number): string;
  /** Added instead of the above when the coming turn is the last one. */
  answerNow: string;
  createSubAgents(maxSubagentsPerCall: number): ToolDefinition;

  subtask(k: number): string;
  result: string;
  callError: string;
  /** In place of the end of a tool output that did not fit. */
  cut(numCharacters: number): string;
  turnCutOff(numTokens: number): string;
  noSuchTool(name: string): string;
  expectedForm(example: string): string;
  toolFailed(reason: string): string;
  droppedSubtasks(numDropped: number, limit: number): string;
  /** In place of the report of a subtask over the width of the team. */
  notRun(maxSubagents: number): string;
  emptyReport: string;
  /** In place of the report of a subagent that did not finish; `findings` may be empty. */
  failedReport(reason: Exclude<StopReason, "answered">, findings: string): string;
}

export function agentTexts(style: PromptStyle, language: Language): AgentTexts {
  if (language === "zh") return style === "full" ? fullTextsZh : compactTextsZh;
  return style === "full" ? fullTextsEn : compactTextsEn;
}
