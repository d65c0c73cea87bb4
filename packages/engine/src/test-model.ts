// A tiny random model and requests for tests. No file, no download.
import type { GenerateRequest, PackedBatch } from "@wideseek/spec";
import { NativePolicy } from "./native-policy.ts";
import type { CreateOptions } from "./options.ts";

export const TINY_CONFIG = {
  architectures: ["Qwen3ForCausalLM"],
  model_type: "qwen3",
  vocab_size: 101,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 1024,
  tie_word_embeddings: true,
  initializer_range: 0.2,
} as const;

/** Experts in its first layer. */
export const TINY_MOE_CONFIG: Readonly<Record<string, unknown>> = {
  ...TINY_CONFIG,
  architectures: ["Qwen3MoeForCausalLM"],
  model_type: "qwen3_moe",
  tie_word_embeddings: false,
  num_experts: 6,
  num_experts_per_tok: 2,
  moe_intermediate_size: 24,
  norm_topk_prob: true,
  mlp_only_layers: [1],
};

export async function tinyPolicy(options: CreateOptions = {}): Promise<NativePolicy> {
  return await NativePolicy.create(TINY_CONFIG, 1n, { device: "cpu", threads: 1, maxTrainTokens: 256, ...options });
}

export function tinyRequest(change: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    promptIds: Int32Array.from([1, 2, 3, 4, 5]),
    maxNewTokens: 10,
    seed: 1n,
    sampling: { temperature: 1, topP: 1, topK: 0, minP: 0 },
    stopTokenIds: [],
    ...change,
  };
}

/** Two sequences of ten tokens, all but the first of each trained. */
export function tinyBatch(change: Partial<PackedBatch> = {}): PackedBatch {
  const lossWeights = new Float32Array(20).fill(0.05);
  lossWeights[0] = lossWeights[10] = 0;
  return {
    tokenIds: Int32Array.from({ length: 20 }, (_, index) => (index * 7) % 101),
    cuSeqlens: Int32Array.from([0, 10, 20]),
    lossWeights,
    advantages: new Float32Array(20).fill(1),
    behaviorLogprobs: new Float32Array(20).fill(-4),
    ...change,
  };
}

export const GRPO = {
  kind: "grpo",
  temperature: 1,
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 10,
  klCoefficient: 0,
} as const;

export const ADAMW = {
  learningRate: 1e-2,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
} as const;
