// Which models judge and summarise: a server or weights of our own. Owns no behaviour.
import { chatServerShape } from "@wideseek/llm";
import { llmJudgeShape } from "@wideseek/rewards";
import { z } from "zod";
import { count, engineSchema, folder } from "./engine-schema.ts";

export const cacheShape = {
  cacheFile: folder
    .nullable()
    .default(null)
    .describe("SQLite file that keeps replies by content, shared by runs and processes; null = none are kept."),
  cacheMaxMiB: count().default(1024).describe("Size of that file's contents; replies not used for longest go first."),
};

/** A model behind an OpenAI-compatible server. */
export const apiModelShape = { kind: z.literal("api"), ...chatServerShape, ...cacheShape };

/** A model of our own engine, beside the one that is trained or evaluated. */
export const localModelShape = {
  kind: z.literal("local"),
  directory: folder.describe("Hugging Face folder of the model."),
  engine: engineSchema.prefault({}).describe("How the model runs."),
  maxTokens: count().nullable().default(null).describe("Most tokens of a reply; null = what the context leaves."),
  ...cacheShape,
};

const ruleSchema = z.strictObject({
  kind: z.literal("rule").describe("Equal after normalisation; needs no model."),
});

export const judgeSchema = z.discriminatedUnion("kind", [
  ruleSchema,
  z.strictObject({ ...apiModelShape, ...llmJudgeShape }),
  z.strictObject({ ...localModelShape, ...llmJudgeShape }),
]);

const summaryShape = {
  maxSummaryTokens: count().nullable().default(null).describe("Most tokens of a summary; null = the model's limit."),
};

export const summarySchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("none").describe("Agents read pages as they are, cut to tools.pageCharacters.") }),
  z.strictObject({ kind: z.literal("judge").describe("The judge's model summarises, as published."), ...summaryShape }),
  z.strictObject({ ...apiModelShape, ...summaryShape }),
  z.strictObject({ ...localModelShape, ...summaryShape }),
]);

export type ChatModelConfig =
  | z.output<z.ZodObject<typeof apiModelShape, z.core.$strict>>
  | z.output<z.ZodObject<typeof localModelShape, z.core.$strict>>;
export type JudgeConfig = z.output<typeof judgeSchema>;
export type SummaryConfig = z.output<typeof summarySchema>;
