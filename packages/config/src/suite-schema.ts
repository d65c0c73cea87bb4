// A suite: the systems of a published table as rows, their models, and the figures to stand beside ours. Owns no system.
import { chatServerShape } from "@wideseek/llm";
import { z } from "zod";
import { cacheShape, localModelShape } from "./chat-models.ts";
import { engineSchema } from "./engine-schema.ts";

const name = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,80}$/, "must be a name of letters, digits, _ and -")
  .describe("Names a part of the suite.");
// --set reaches these, and it knows words only.
const modelName = z.string().regex(/^\w{1,80}$/, "must be a name of letters, digits and _");

/** A model of a row. What is not configured yet is null, and the row says so. */
export const suiteModelSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("local").describe("Weights on our own engine."),
    directory: localModelShape.directory,
    engine: engineSchema.optional().describe("How the model runs; left out, as the section engine of the config says."),
    maxTokens: localModelShape.maxTokens,
  }),
  z.strictObject({
    kind: z.literal("api").describe("A model behind an OpenAI-compatible server."),
    ...chatServerShape,
    baseUrl: chatServerShape.baseUrl.nullable().default(null).describe("Address of the server; null = not configured."),
    ...cacheShape,
  }),
]);

const measures = [
  "itemF1",
  "itemPrecision",
  "itemRecall",
  "rowF1",
  "rowPrecision",
  "rowRecall",
  "success",
  "qaScore",
  "qaExactMatch",
  "qaTokenF1",
] as const;

const columnSchema = z.strictObject({
  label: z.string().min(1).describe("Head of the column."),
  measure: z.enum(measures).describe("What is measured."),
  statistic: z.enum(["avg", "max", "min", "pass"]).default("avg").describe("Over the samples of a question."),
  dataset: z
    .string()
    .nullable()
    .default(null)
    .describe("One set of the questions; null = all, sets counting the same."),
});

const rowSchema = z.strictObject({
  system: z.string().min(1).describe("The system as the table names it."),
  team: z.enum(["single", "multi"]).describe("Where the table has it: one agent or several."),
  workflow: name.describe("wideseek, singleseek, or a workflow of another system."),
  models: z.record(name, modelName).describe("Model of each role; default speaks for roles that are not named."),
  options: z
    .record(z.string(), z.unknown())
    .default({})
    .describe("Options of the workflow that differ from the published."),
  published: z
    .record(name, z.number().min(0).max(100))
    .default({})
    .describe("Published figures by column, in percent."),
  note: z.string().default("").describe("What a reader of the table must know about the row."),
});

export const suiteSchema = z.strictObject({
  title: z.string().min(1).describe("Heading of the table."),
  columns: z.record(name, columnSchema).describe("Columns in order."),
  models: z.record(modelName, suiteModelSchema).describe("Models that rows name."),
  rows: z.record(name, rowSchema).describe("Rows in order."),
});

/** The part of a run's config that fits a suite to a machine. */
export const suiteSettingsSchema = z.strictObject({
  models: z
    .record(modelName, suiteModelSchema)
    .default({})
    .describe(
      "Models of the suite that are somewhere else here, by their names in the suite; each replaces the whole.",
    ),
});

export type Suite = z.output<typeof suiteSchema>;
export type SuiteModel = z.output<typeof suiteModelSchema>;
export type SuiteRow = z.output<typeof rowSchema>;
export type SuiteColumn = z.output<typeof columnSchema>;
