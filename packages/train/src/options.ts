// Knobs of training and cold start with their published defaults. Owns no values of a run.
import type { OptimizerSettings } from "@wideseek/spec";
import { z } from "zod";

/** Far above any sensible run, far below what exhausts the memory before the first step. */
const count = (limit: number = 10_000_000): z.ZodInt => z.int().min(1).max(limit);
const rate = z.number().min(0).max(1);

const optimizerShape = {
  weightDecay: z.number().min(0).default(0.01).describe("Decoupled weight decay; norms and biases are not decayed."),
  adamBeta1: z.number().min(0).lt(1).default(0.9).describe("Decay of Adam's first moment."),
  adamBeta2: z.number().min(0).lt(1).default(0.999).describe("Decay of Adam's second moment."),
  adamEpsilon: z.number().positive().default(1e-5).describe("Added to the root of Adam's second moment."),
  maxGradNorm: z.number().positive().default(1).describe("Gradients with a larger global norm are scaled down to it."),
};

const scheduleShape = {
  schedule: z.enum(["constant", "linear", "cosine"]).default("constant").describe("Learning rate after the warmup."),
  warmupSteps: z.int().min(0).default(0).describe("Steps in which the learning rate rises linearly from 0."),
  minLearningRate: z.number().min(0).default(0).describe("Where the linear and cosine schedules end."),
};

const checkpointShape = {
  checkpointEvery: count().default(30).describe("Steps between checkpoints; the last step is always saved."),
  keepCheckpoints: count().default(2).describe("Newest checkpoints that are kept."),
};

/** Multi-agent GRPO. */
export const trainOptionsSchema = z.strictObject({
  steps: count().default(156).describe("Optimizer steps of the run."),
  questionsPerStep: count(100_000).default(128).describe("Questions (groups) of one step."),
  groupSize: z.int().min(2).max(10_000).default(8).describe("Episodes of one question."),
  temperature: z.number().positive().default(1).describe("Sampling temperature; training uses the same."),
  learningRate: z.number().min(0).default(1e-6).describe("Learning rate of AdamW after the warmup."),
  ...scheduleShape,
  advantageStd: z
    .enum(["sample", "population"])
    .default("sample")
    .describe("Standard deviation that divides the rewards of a group."),
  clipLow: rate.default(0.2).describe("Probability ratios below 1 - clipLow are clipped."),
  clipHigh: z.number().min(0).default(0.28).describe("Probability ratios above 1 + clipHigh are clipped."),
  dualClip: z.number().gt(1).nullable().default(10).describe("Bound of the loss for negative advantages; null = off."),
  klCoefficient: z.number().min(0).default(0).describe("Weight of the k3 KL to the starting model; 0 = no reference."),
  ...optimizerShape,
  maxTokens: count().default(32_000).describe("Most tokens of a micro-batch, at least the longest trajectory."),
  maxConcurrentEpisodes: count(1_000_000).default(1024).describe("Episodes that run at the same time."),
  cutQuantile: z
    .number()
    .gt(0)
    .lt(1)
    .nullable()
    .default(null)
    .describe(
      "When this share of a step's episodes has ended, the rest pause at their next turn and go on in the next step; " +
        "null = every episode ends in its step.",
    ),
  staleness: z
    .union([z.literal(0), z.literal(1)])
    .default(0)
    .describe("1 = the next batch is sampled while this one is trained on, by weights one step old; 0 = in turn."),
  importanceCap: z
    .number()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      "Most that a token's probability by the training pass over that of its sampling may weigh it, at the cost of " +
        "scoring each batch once; null = no such weight.",
    ),
  judgeRetrySeconds: z
    .number()
    .min(0)
    .max(86_400)
    .default(300)
    .describe("Seconds of pauses that a step spends on judging again what could not be judged, before it is left out."),
  ...checkpointShape,
  evalEvery: z.int().min(0).default(30).describe("Steps between held-out evaluations; 0 = only before and after."),
  traceEvery: z.int().min(0).default(1).describe("Steps between episode traces in episodes.jsonl; 0 = none."),
});
export type TrainOptions = z.infer<typeof trainOptionsSchema>;

/** Supervised training on traces of a scripted expert. */
export const coldStartOptionsSchema = z.strictObject({
  steps: count().default(1000).describe("Optimizer steps of the run."),
  tokensPerStep: count().default(32_000).describe("Tokens of one optimizer step, given ones included."),
  maxTokens: count().default(32_000).describe("Most tokens of a micro-batch, at least the longest trajectory."),
  weighting: z
    .enum(["token", "trajectory"])
    .default("token")
    .describe("Mean of the loss over all sampled tokens of a step, or over trajectories first."),
  drillSteps: z
    .int()
    .min(0)
    .default(0)
    .describe("First steps that repeat random tokens, for a new model to learn to look back; 0 = traces only."),
  drillTokensPerStep: count().default(1024).describe("Tokens of one of the first `drillSteps` steps."),
  maxSubagentsPerTrace: count().default(100).describe("Most subagents of one trace that are trained on."),
  learningRate: z.number().min(0).default(1e-3).describe("Learning rate of AdamW after the warmup."),
  ...scheduleShape,
  schedule: scheduleShape.schedule.unwrap().default("cosine").describe("Learning rate after the warmup."),
  warmupSteps: z.int().min(0).default(50).describe("Steps in which the learning rate rises linearly from 0."),
  ...optimizerShape,
  adamBeta2: z.number().min(0).lt(1).default(0.95).describe("Decay of Adam's second moment."),
  adamEpsilon: z.number().positive().default(1e-8).describe("Added to the root of Adam's second moment."),
  ...checkpointShape,
  checkpointEvery: count().default(200).describe("Steps between checkpoints; the last step is always saved."),
  heldOutEvery: z.int().min(0).default(100).describe("Steps between held-out losses; 0 = only at the end."),
  heldOutTraces: z.int().min(0).max(1_000_000).default(16).describe("Held-out episodes that the loss is measured on."),
});
export type ColdStartOptions = z.infer<typeof coldStartOptionsSchema>;

/** The optimizer's part of the options at the learning rate of one step. */
export function optimizerSettings(options: TrainOptions | ColdStartOptions, learningRate: number): OptimizerSettings {
  return {
    learningRate,
    maxGradNorm: options.maxGradNorm,
    beta1: options.adamBeta1,
    beta2: options.adamBeta2,
    epsilon: options.adamEpsilon,
    weightDecay: options.weightDecay,
  };
}
