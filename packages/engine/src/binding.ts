// Types of the native boundary; field lists and order as in native/src/napi/convert.cc. Owns no behaviour.
import type {
  LossSettings,
  LossStats,
  OptimizerSettings,
  OptimizerStepResult,
  PackedBatch,
  SamplingSettings,
  TokenLogprobs,
} from "@wideseek/spec";

/** Shape of a decoder, with checkpoint defaults filled in. */
export interface NativeModelConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  ropeTheta: number;
  yarn?: {
    factor: number;
    originalMaxPositionEmbeddings: number;
    betaFast: number;
    betaSlow: number;
    attentionFactor: number;
  };
  tieWordEmbeddings: boolean;
  qkvBias: boolean;
  qkNorm: boolean;
  /** Layers whose MLP is a router and experts. */
  moe?: {
    numExperts: number;
    expertsPerToken: number;
    /** Of one expert. */
    intermediateSize: number;
    /** A token's shares are divided by their sum. */
    normalizeShares: boolean;
    /** Indices of these layers. */
    layers: Int32Array;
  };
}

export interface NativeEngineOptions {
  device: "cpu" | "cuda";
  threads: number;
  config: NativeModelConfig;
  weightDtype: "float32" | "bfloat16";
  maxContextTokens: number;
  kvCacheTokens: number;
  maxBatchTokens: number;
  maxDraftTokens: number;
  maxTrainTokens: number;
  recompute: "none" | "selective" | "full";
  gradientDtype: "float32" | "bfloat16";
  pinnedOptimizerState: boolean;
  trainWhileGenerating: boolean;
}

export interface NativeGenerateRequest {
  promptIds: Int32Array;
  maxNewTokens: number;
  seed: bigint;
  sampling: SamplingSettings;
  stopTokenIds: Int32Array;
}

export interface NativeCompletion {
  tokenIds: Int32Array;
  logprobs: Float32Array;
  finishReason: "stop" | "length";
  policyVersion: bigint;
  numCachedTokens: number;
}

/** One row of the parameter table. */
export interface ParameterInfo {
  /** Hugging Face name. */
  name: string;
  shape: number[];
  /** False for norms and biases, which AdamW does not decay. */
  decayed: boolean;
}

export type FloatDtype = "float32" | "bfloat16" | "float16";
export type TensorKind = "weight" | "gradient" | "firstMoment" | "secondMoment";

/** Counters since the engine started, and gauges of now. */
export interface EngineStats {
  numSteps: number;
  /** Rows of all forward passes of generation. */
  numComputedTokens: number;
  numGeneratedTokens: number;
  /** Prompt tokens of finished requests that came from the prefix cache. */
  numCachedTokens: number;
  /** Tokens that were guessed and computed, and those of them that were then sampled. */
  numDraftTokens: number;
  numRightDrafts: number;
  numPreemptions: number;
  numRunning: number;
  numWaiting: number;
  /** Blocks of 16 tokens of the KV cache. */
  numBlocks: number;
  numBlocksUsed: number;
  numBlocksCached: number;
  maxBlocksUsed: number;
  /** Seconds in forward passes of generation and the sampling after them. */
  generatingSeconds: number;
  /** Seconds in training passes, scoring and optimizer steps. */
  trainingSeconds: number;
  memory: {
    weightsMiB: number;
    kvCacheMiB: number;
    inferenceMiB: number;
    /**
     * Planned: gradients, moments, master weights and activations; taken by the first training operation. Of a
     * mixture of experts, which cannot be trained, what scoring takes.
     */
    trainingMiB: number;
    allocatedMiB: number;
    peakMiB: number;
  };
  policyVersion: bigint;
}

/** Promises reject with an Error that has `code` and `op`; bad arguments throw the same at the call. */
export interface NativeEngine {
  /** Rejects with the reason if the device state could not be built. */
  info(): Promise<{ device: string; parameters: ParameterInfo[] }>;
  generate(
    request: NativeGenerateRequest,
    onToken?: (tokenId: number) => void,
  ): { key: number; completion: Promise<NativeCompletion> };
  /** The request of `key` rejects with WS_CLOSED unless it has ended. */
  cancel(key: number): void;
  /** Of every position, float32 [T * vocabSize]. */
  logits(tokenIds: Int32Array): Promise<Float32Array>;
  logprobs(batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">, temperature: number): Promise<TokenLogprobs>;
  forwardBackward(batch: PackedBatch, loss: LossSettings): Promise<LossStats>;
  optimizerStep(settings: OptimizerSettings): Promise<OptimizerStepResult>;
  zeroGradients(): Promise<void>;
  /** Row-major little-endian values of a whole parameter. */
  writeParameter(index: number, bytes: Uint8Array, dtype: FloatDtype): Promise<void>;
  readParameter(index: number, dtype: FloatDtype): Promise<Uint8Array>;
  readTensor(kind: TensorKind, index: number): Promise<Float32Array>;
  writeTensor(kind: TensorKind, index: number, values: Float32Array): Promise<void>;
  /** Normal(0, std) matrices, ones for norms, zeros for biases. */
  initialize(seed: bigint, std: number): Promise<void>;
  trainingState(): Promise<{ numSteps: number; policyVersion: bigint }>;
  setTrainingState(numSteps: number, policyVersion: bigint): Promise<void>;
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}

/** What the addon exports. */
export interface Binding {
  NativeEngine: new (options: NativeEngineOptions) => NativeEngine;
  /** The distribution that sampling draws from, float64 [V]; `historyIds` feeds the repetition penalty. */
  filterProbabilities(logits: Float32Array, sampling: SamplingSettings, historyIds: Int32Array): Float64Array;
  /** Rotary tables of positions 0..numPositions-1, each float32 [numPositions, headDim/2]. */
  ropeTable(config: NativeModelConfig, numPositions: number): { cos: Float32Array; sin: Float32Array };
}
