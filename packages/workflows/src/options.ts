// Options that every workflow has, as fields of its schema. Owns no protocol.
import { z } from "zod";

export const count = (limit: number = 10_000_000): z.ZodInt => z.int().min(1).max(limit);

export const commonShape = {
  // setTimeout holds 2^31 - 1 milliseconds.
  episodeSeconds: z
    .number()
    .positive()
    .max(2_000_000)
    .default(1800)
    .describe("Seconds after which an episode stops with what it has."),
  toolSeconds: z
    .number()
    .positive()
    .max(86_400)
    .default(60)
    .describe("Seconds after which one search or page is given up and the model is told."),
  tableTokens: count()
    .default(8192)
    .describe("Most tokens of a reply that has to hold a whole table, where the protocol's own limit is lower."),
} as const;

export interface CommonOptions {
  episodeSeconds: number;
  toolSeconds: number;
  tableTokens: number;
}
