// The limits of the tools as a schema. Owns no behaviour: reading a config needs only this file.
import { z } from "zod";

const count = (limit: number): z.ZodNumber => z.number().int().min(1).max(limit);

/** Defaults are the published ones (WideSeek-R1) where it states a limit. */
export const toolOptionsSchema: z.ZodObject<{
  defaultCount: z.ZodDefault<z.ZodNumber>;
  maxCount: z.ZodDefault<z.ZodNumber>;
  maxItemsPerCall: z.ZodDefault<z.ZodNumber>;
  maxQueryCharacters: z.ZodDefault<z.ZodNumber>;
  hitCharacters: z.ZodDefault<z.ZodNumber>;
  pageCharacters: z.ZodDefault<z.ZodNumber>;
  timeoutSeconds: z.ZodDefault<z.ZodNumber>;
  compactDefinitions: z.ZodDefault<z.ZodBoolean>;
}> = z
  .strictObject({
    defaultCount: count(1000).default(3).describe("Search hits returned when a query names no count."),
    maxCount: count(1000).default(9).describe("Most search hits that one query may ask for."),
    maxItemsPerCall: count(1000)
      .default(5)
      .describe("Most queries or URLs that one call of a subagent may carry; further ones are dropped and named."),
    maxQueryCharacters: count(1_000_000)
      .default(2000)
      .describe("A longer search query is cut to this many characters."),
    hitCharacters: count(10_000_000).default(5000).describe("Characters of each search hit that the model is shown."),
    pageCharacters: count(10_000_000)
      .default(25_000)
      .describe("Characters of an accessed page that the model is shown."),
    timeoutSeconds: z
      .number()
      .positive()
      .max(86_400)
      .default(60)
      .describe("Seconds after which one search or access is given up and the model is told."),
    compactDefinitions: z
      .boolean()
      .default(false)
      .describe("Describe the tools in as few tokens as possible, for very small models."),
  })
  .refine((options) => options.defaultCount <= options.maxCount, {
    path: ["defaultCount"],
    message: "must not pass maxCount",
  });

export type ToolOptions = z.output<typeof toolOptionsSchema>;
export type ToolOptionsInput = z.input<typeof toolOptionsSchema>;
