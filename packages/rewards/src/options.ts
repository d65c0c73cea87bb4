// Settings of the episode reward, with the published values as defaults.

import { z } from "zod";

type NumberOption = z.ZodDefault<z.ZodNumber>;

export const rewardOptionsSchema: z.ZodObject<
  {
    formatReward: NumberOption;
    toolReward: NumberOption;
    lengthPenalty: NumberOption;
    lengthPenaltyStart: NumberOption;
    lengthPenaltyEnd: NumberOption;
    fence: z.ZodDefault<z.ZodEnum<{ first: "first"; last: "last" }>>;
  },
  z.core.$strict
> = z.strictObject({
  formatReward: z.number().min(0).default(0.1).describe("Reward for an answer in the demanded form."),
  toolReward: z
    .number()
    .min(0)
    .default(0.05)
    .describe("Reward when any agent made a valid access call; searching alone earns nothing, as published."),
  lengthPenalty: z.number().min(0).default(0.1).describe("Largest penalty for the longest turn of any agent."),
  lengthPenaltyStart: z
    .number()
    .int()
    .min(0)
    .default(3000)
    .describe("Sampled tokens of the longest turn from which the penalty grows."),
  lengthPenaltyEnd: z
    .number()
    .int()
    .min(0)
    .default(5000)
    .describe("Sampled tokens of the longest turn at which the penalty is full."),
  fence: z.enum(["first", "last"]).default("last").describe("Which of several fenced tables is the answer."),
});

export type RewardOptions = z.infer<typeof rewardOptionsSchema>;
