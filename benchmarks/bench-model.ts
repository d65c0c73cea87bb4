// The models benchmarks run on: random weights of a stated shape, written as a Hugging Face folder. Owns no timing.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { NativePolicy } from "@wideseek/engine";

export interface ModelShape {
  name: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
}

/** 15.7 M parameters, embeddings tied; the peers' benchmarks use the same. */
export const bench30m: ModelShape = {
  name: "bench-30m",
  vocabSize: 8192,
  hiddenSize: 384,
  intermediateSize: 1024,
  numLayers: 8,
  numHeads: 6,
  numKvHeads: 2,
  headDim: 64,
};

/** For `--smoke`. */
export const toyShape: ModelShape = {
  name: "toy",
  vocabSize: 512,
  hiddenSize: 64,
  intermediateSize: 128,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 16,
};

export const rmsNormEps = 1e-6;
export const ropeTheta = 1e6;

/** A model folder in a temporary place, removed on disposal. */
export class BenchModel implements AsyncDisposable {
  readonly directory: string;
  readonly shape: ModelShape;

  private constructor(directory: string, shape: ModelShape) {
    this.directory = directory;
    this.shape = shape;
  }

  static async create(shape: ModelShape): Promise<BenchModel> {
    const parent = await mkdtemp(join(tmpdir(), "wideseek-bench-"));
    const directory = join(parent, "model");
    await using policy = await NativePolicy.create(huggingFaceConfig(shape), 0n, { device: "cpu" });
    await policy.saveWeights(directory);
    return new BenchModel(directory, shape);
  }

  async open(options: { threads: number; kvCacheTokens: number; maxTrainTokens: number }): Promise<NativePolicy> {
    const maxContextTokens = Math.min(4096, options.kvCacheTokens);
    return await NativePolicy.load({ modelDir: this.directory, device: "cpu", maxContextTokens, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(dirname(this.directory), { recursive: true, force: true });
  }
}

function huggingFaceConfig(shape: ModelShape): Record<string, unknown> {
  return {
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    attention_bias: false,
    head_dim: shape.headDim,
    hidden_act: "silu",
    initializer_range: 0.02,
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    max_position_embeddings: 40960,
    num_attention_heads: shape.numHeads,
    num_hidden_layers: shape.numLayers,
    num_key_value_heads: shape.numKvHeads,
    rms_norm_eps: rmsNormEps,
    rope_theta: ropeTheta,
    tie_word_embeddings: true,
    torch_dtype: "float32",
    vocab_size: shape.vocabSize,
  };
}

/** Uniform token ids from a linear congruential sequence; the same numbers in every run. */
export class RandomTokens {
  #state: number;
  readonly #vocabSize: number;

  constructor(vocabSize: number, seed = 1) {
    this.#vocabSize = vocabSize;
    this.#state = seed;
  }

  take(count: number): Int32Array {
    return Int32Array.from({ length: count }, () => {
      this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
      return Math.floor((this.#state / 2 ** 32) * this.#vocabSize);
    });
  }
}
