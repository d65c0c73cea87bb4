// How a model runs on our engine, as a schema. Owns no values of a run.
import { z } from "zod";

/** Far above any sensible run, far below what exhausts the memory before the first step. */
export const count = (limit: number = 10_000_000): z.ZodInt => z.int().min(1).max(limit);
export const folder = z.string().min(1);

/** As `LoadOptions` of the engine, without the model and the training batch, which other sections say. */
export const engineSchema = z.strictObject({
  device: z
    .enum(["auto", "cpu", "cuda"])
    .default("auto")
    .describe("Where the model runs; auto = a GPU if there is one."),
  threads: count(1024).optional().describe("CPU threads of the engine; left out, one per available core."),
  weightDtype: z
    .enum(["float32", "bfloat16"])
    .default("float32")
    .describe("How weights are stored; training keeps a float32 master copy of bfloat16 weights."),
  maxContextTokens: count()
    .optional()
    .describe("Longest context that is planned for; left out, what the model allows."),
  kvCacheTokens: count(1_000_000_000)
    .optional()
    .describe("Tokens whose keys and values fit the cache; left out, by the engine."),
  maxBatchTokens: count()
    .default(512)
    .describe("Tokens of one generation step, so also the most agents that run at once."),
  maxDraftTokens: z
    .int()
    .min(0)
    .max(64)
    .default(0)
    .describe("Tokens of an agent that one generation step may guess from its context; 0 = none. Changes no result."),
  recompute: z
    .enum(["none", "selective", "full"])
    .default("none")
    .describe("What the backward pass computes again to save memory: half of each layer's MLP, or whole layers."),
  gradientDtype: z
    .enum(["float32", "bfloat16"])
    .default("float32")
    .describe("How gradients are accumulated; bfloat16 on CUDA only."),
  pinnedOptimizerState: z
    .boolean()
    .default(false)
    .describe("CUDA: master weights and moments in pinned host memory instead of the GPU's."),
});
