// Settings of a NativePolicy: schema, defaults and what each one means. Does not read files.
import { availableParallelism } from "node:os";
import { invalidInput } from "@wideseek/spec";
import { z } from "zod";
import type { NativeModelConfig } from "./binding.ts";

const positive = z.int().min(1);

/** Settings of the engine with defaults filled in; those left out depend on model and machine. */
export interface ResolvedCreateOptions {
  device: "auto" | "cpu" | "cuda";
  threads?: number | undefined;
  weightDtype: "float32" | "bfloat16";
  maxContextTokens?: number | undefined;
  kvCacheTokens?: number | undefined;
  maxTrainTokens: number;
  maxBatchTokens: number;
  maxDraftTokens: number;
  recompute: "none" | "selective" | "full";
  gradientDtype: "float32" | "bfloat16";
  pinnedOptimizerState: boolean;
  trainWhileGenerating: boolean;
}
export interface ResolvedLoadOptions extends ResolvedCreateOptions {
  modelDir: string;
}

/** What a caller may set when the weights are random. */
export type CreateOptions = { [K in keyof ResolvedCreateOptions]?: ResolvedCreateOptions[K] | undefined };
/** What a caller may set when the weights are loaded. */
export type LoadOptions = CreateOptions & Pick<ResolvedLoadOptions, "modelDir">;

const engineShape = {
  device: z
    .enum(["auto", "cpu", "cuda"])
    .default("auto")
    .describe("Where the model runs; `auto` takes CUDA if there is any, else the CPU, and says why in `deviceNote`."),
  threads: positive.max(1024).optional().describe("CPU threads of the engine; by default one per available core."),
  weightDtype: z
    .enum(["float32", "bfloat16"])
    .default("float32")
    .describe(
      "How weights are stored, and activations on CUDA; sums are float32, and bfloat16 keeps a float32 master copy.",
    ),
  maxContextTokens: positive
    .optional()
    .describe("Longest prompt plus completion; by default what the model allows, at most 32768."),
  kvCacheTokens: positive
    .optional()
    .describe(
      "Tokens whose keys and values fit the cache; by default on a CPU eight contexts, at most 512 MiB beyond one, " +
        "on a GPU what training leaves.",
    ),
  maxTrainTokens: positive.default(8192).describe("Largest packed batch of a training operation."),
  maxBatchTokens: positive
    .default(512)
    .describe("Tokens that one generation step computes, and so also the most requests that run at once."),
  maxDraftTokens: z
    .int()
    .min(0)
    .max(64)
    .default(0)
    .describe("Tokens of an agent that one generation step may guess from its context; 0 = none. Changes no result."),
  recompute: z
    .enum(["none", "selective", "full"])
    .default("none")
    .describe(
      "What training computes again instead of keeping: selective = half of each layer's MLP, full = whole layers.",
    ),
  gradientDtype: z
    .enum(["float32", "bfloat16"])
    .default("float32")
    .describe("How gradients of weights are accumulated; bfloat16 on CUDA only."),
  pinnedOptimizerState: z
    .boolean()
    .default(false)
    .describe("CUDA: keep master weights and moments in pinned host memory; slower steps, 12 bytes a weight less."),
  trainWhileGenerating: z
    .boolean()
    .default(false)
    .describe("forwardBackward may run while requests generate; its activations then get memory beside the KV cache."),
};

/** Schema of `CreateOptions`. */
export const createOptionsSchema: z.ZodType<ResolvedCreateOptions, CreateOptions> = z.strictObject(engineShape);

/** Schema of `LoadOptions`, for configuration files and help texts. */
export const loadOptionsSchema: z.ZodType<ResolvedLoadOptions, LoadOptions> = z.strictObject({
  modelDir: z.string().min(1).describe("Hugging Face folder with config.json and safetensors."),
  ...engineShape,
});

/** @throws WS_INVALID_ARGUMENT naming the key */
export function resolveLoadOptions(options: LoadOptions): ResolvedLoadOptions {
  return resolve("NativePolicy.load", loadOptionsSchema, options);
}

/** @throws WS_INVALID_ARGUMENT naming the key */
export function resolveCreateOptions(options: CreateOptions): ResolvedCreateOptions {
  return resolve("NativePolicy.create", createOptionsSchema, options);
}

function resolve<Output, Input>(where: string, schema: z.ZodType<Output, Input>, options: Input): Output {
  const result = schema.safeParse(options);
  if (!result.success) throw invalidInput(where, result.error);
  return result.data;
}

/** Limits that depend on the model and the machine. */
export interface EngineLimits {
  threads: number;
  maxContextTokens: number;
  kvCacheTokens: number;
}

const DEFAULT_CONTEXT_TOKENS = 32_768;
const DEFAULT_CONTEXTS = 8;
const DEFAULT_CACHE_BYTES = 512 * 2 ** 20;

export function engineLimits(options: ResolvedCreateOptions, config: NativeModelConfig): EngineLimits {
  const maxContextTokens = options.maxContextTokens ?? Math.min(config.maxPositionEmbeddings, DEFAULT_CONTEXT_TOKENS);
  // As float32.
  const bytesPerToken = 2 * config.numLayers * config.numKvHeads * config.headDim * 4;
  const affordable = Math.floor(DEFAULT_CACHE_BYTES / bytesPerToken);
  return {
    threads: options.threads ?? availableParallelism(),
    maxContextTokens,
    kvCacheTokens:
      options.kvCacheTokens ?? Math.max(maxContextTokens, Math.min(DEFAULT_CONTEXTS * maxContextTokens, affordable)),
  };
}
