// How much a judging model is asked at once, as a schema. Owns no behaviour: reading a config needs only this file.
import { z } from "zod";

type CountOption = z.ZodDefault<z.ZodNumber>;
const count = (limit: number): z.ZodNumber => z.number().int().min(1).max(limit);

/** Fields that a config section of a judge spreads. */
export const llmJudgeShape: {
  maxItems: CountOption;
  maxCharacters: CountOption;
  textCharacters: CountOption;
  maxReadings: CountOption;
} = {
  maxItems: count(10_000).default(40).describe("Most pairs or names that the judge is asked about in one request."),
  maxCharacters: count(10_000_000).default(24_000).describe("Characters of data that one request may hold."),
  textCharacters: count(1_000_000)
    .default(2000)
    .describe("A longer cell, answer or question is cut to this many characters before it is judged."),
  maxReadings: count(100)
    .default(3)
    .describe("Replies that are asked for until one can be read; then it could not be judged."),
};

export const llmJudgeOptionsSchema: z.ZodObject<typeof llmJudgeShape, z.core.$strict> = z.strictObject(llmJudgeShape);

export type LlmJudgeOptions = z.output<typeof llmJudgeOptionsSchema>;
export type LlmJudgeOptionsInput = z.input<typeof llmJudgeOptionsSchema>;
