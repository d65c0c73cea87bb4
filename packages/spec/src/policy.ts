// The language model as agents and the trainer see it. Owns no tokenizer and no device.
import type { LossSettings, LossStats, PackedBatch, TokenLogprobs } from "./batch.ts";

/** How one token is drawn from the model's distribution. */
export interface SamplingSettings {
  /** 0 = greedy. */
  temperature: number;
  /** 1 = off. */
  topP: number;
  /** 0 = off. */
  topK: number;
  /** 0 = off. */
  minP: number;
  /** 1 or undefined = off. Divides (positive) or multiplies (negative) the logits of tokens seen before. */
  repetitionPenalty?: number | undefined;
}

export interface GenerateRequest {
  /** Everything the model has seen so far; the longest cached prefix is not computed again. */
  promptIds: Int32Array;
  /** At least 1; `promptIds.length + maxNewTokens` must not pass `maxContextTokens`. */
  maxNewTokens: number;
  /** Unsigned 64 bits. With the weights and `promptIds` it fixes every sampled token, whatever else is in the batch. */
  seed: bigint;
  sampling: SamplingSettings;
  /** A sampled stop token ends generation and is part of the completion. */
  stopTokenIds: readonly number[];
  /** Aborting rejects with `signal.reason` at the next decode step. */
  signal?: AbortSignal | undefined;
  /** Called once per decode step with the token just sampled. */
  onToken?: ((tokenId: number) => void) | undefined;
}

export interface Completion {
  /** Sampled ids, the stop token included when `finishReason` is "stop". */
  tokenIds: Int32Array;
  /** ln p of each sampled token at the sampling temperature, before top-k/top-p/min-p (nats; temperature 0: at temperature 1). */
  logprobs: Float32Array;
  finishReason: "stop" | "length";
  /** Weights that made every token of this completion. */
  policyVersion: bigint;
  /** Prompt tokens whose keys and values came from the prefix cache. */
  numCachedTokens: number;
}

/** A model that generates. */
export interface Policy extends AsyncDisposable {
  readonly maxContextTokens: number;
  readonly vocabSize: number;
  /** +1 per optimizer step. */
  readonly version: bigint;
  /** Joins the running batch at the next step. @throws WS_INVALID_ARGUMENT, WS_OUT_OF_MEMORY, WS_CLOSED */
  generate(request: GenerateRequest): Promise<Completion>;
  /** Idempotent; queued work is rejected with WS_CLOSED. */
  close(): Promise<void>;
}

export interface OptimizerSettings {
  learningRate: number;
  /** Clip by the global norm; `Infinity` = off. */
  maxGradNorm: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled; not applied to norms and biases. */
  weightDecay: number;
}

export interface OptimizerStepResult {
  /** Global L2 norm before clipping; non-finite when the step was skipped. */
  gradNorm: number;
  /** True: a gradient was not finite, weights, moments and version are unchanged, gradients were cleared. */
  skipped: boolean;
}

/** A model that generates and learns; both from the very same weights. */
export interface Trainer extends Policy {
  /**
   * Accumulates gradients of the summed token losses.
   * @throws WS_INVALID_ARGUMENT, WS_INVALID_STATE while generating, unless the policy was made for both at once
   */
  forwardBackward(batch: PackedBatch, loss: LossSettings): Promise<LossStats>;
  /** Log-probabilities and entropies of the given tokens, without gradients. */
  logprobs(batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">, temperature: number): Promise<TokenLogprobs>;
  /** AdamW on the accumulated gradients, then clears them. Empties the prefix cache. */
  optimizerStep(settings: OptimizerSettings): Promise<OptimizerStepResult>;
  /** Writes a Hugging Face folder (config.json, model.safetensors); atomic. */
  saveWeights(directory: string): Promise<void>;
  /** Weights, moments, step and version, enough for a bit-equal resume; the directory must not exist. */
  saveCheckpoint(directory: string): Promise<void>;
  loadCheckpoint(directory: string): Promise<void>;
}
