// How much each benchmark computes: toy, what two CPU cores do in seconds, what fills a GPU. Owns no timing.
import { decodeShape, grpoShape, logprobShape, trainShape } from "./peers/torch.ts";

export interface BenchSizes {
  train: { batch: number; length: number };
  logprob: { batch: number; length: number };
  decode: { batches: readonly number[]; prompt: number; new: number };
  /** Lengths of prompts. */
  prefill: readonly number[];
  grpo: Record<keyof typeof grpoShape, number>;
  onPolicy: { agents: number; shared: number; new: number };
  maxContextTokens: number;
  /** Tokens of one generation step. */
  maxBatchTokens: number;
}

export const toySizes: BenchSizes = {
  train: { batch: 2, length: 16 },
  logprob: { batch: 2, length: 16 },
  decode: { batches: [1, 4], prompt: 16, new: 8 },
  prefill: [32],
  grpo: { prompts: 2, group: 2, prompt: 8, new: 8 },
  onPolicy: { agents: 4, shared: 8, new: 8 },
  maxContextTokens: 4096,
  maxBatchTokens: 512,
};

/** Those of the peers. */
export const cpuSizes: BenchSizes = {
  train: trainShape,
  logprob: logprobShape,
  decode: { batches: [1, 8, 32, 128], ...decodeShape },
  prefill: [512, 2048],
  grpo: grpoShape,
  onPolicy: { agents: 64, shared: 96, new: 64 },
  maxContextTokens: 4096,
  maxBatchTokens: 512,
};

/** Activations of 8,192 tokens of Qwen3-4B fit beside its optimizer on a card of 141 GB. */
export const gpuSizes: BenchSizes = {
  train: { batch: 4, length: 2048 },
  logprob: { batch: 4, length: 2048 },
  decode: { batches: [1, 64, 256], prompt: 512, new: 128 },
  prefill: [2048, 8192],
  grpo: { prompts: 4, group: 8, prompt: 128, new: 128 },
  onPolicy: { agents: 64, shared: 256, new: 128 },
  maxContextTokens: 16_384,
  maxBatchTokens: 8192,
};
