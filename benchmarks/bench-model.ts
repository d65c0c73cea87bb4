// The models benchmarks run on: random weights of a stated shape, written as a Hugging Face folder. Owns no timing.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type CreateOptions, NativePolicy } from "@wideseek/engine";
import type { BenchSizes } from "./sizes.ts";

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

/** The true sizes of Qwen3-0.6B. */
export const qwen3Small: ModelShape = {
  name: "0_6b",
  vocabSize: 151_936,
  hiddenSize: 1024,
  intermediateSize: 3072,
  numLayers: 28,
  numHeads: 16,
  numKvHeads: 8,
  headDim: 128,
};

/** The true sizes of Qwen3-4B. */
export const qwen3Large: ModelShape = {
  name: "4b",
  vocabSize: 151_936,
  hiddenSize: 2560,
  intermediateSize: 9728,
  numLayers: 36,
  numHeads: 32,
  numKvHeads: 8,
  headDim: 128,
};

export const modelShapes: readonly ModelShape[] = [bench30m, qwen3Small, qwen3Large];

type OpenOptions = Pick<CreateOptions, "threads" | "kvCacheTokens" | "maxTrainTokens">;

/**
 * Random weights, opened on one device. For the CPU they lie in a folder, which peers read too, in a temporary place
 * that is removed on disposal; a GPU draws them anew each time, for no peer reads those.
 */
export class BenchModel implements AsyncDisposable {
  readonly #directory: string | null;
  readonly shape: ModelShape;
  readonly #sizes: BenchSizes;

  private constructor(directory: string | null, shape: ModelShape, sizes: BenchSizes) {
    this.#directory = directory;
    this.shape = shape;
    this.#sizes = sizes;
  }

  static async create(shape: ModelShape, device: "cpu" | "cuda", sizes: BenchSizes): Promise<BenchModel> {
    if (device === "cuda") return new BenchModel(null, shape, sizes);
    const parent = await mkdtemp(join(tmpdir(), "wideseek-bench-"));
    const directory = join(parent, "model");
    await using policy = await NativePolicy.create(huggingFaceConfig(shape), 0n, { device: "cpu" });
    await policy.saveWeights(directory);
    return new BenchModel(directory, shape, sizes);
  }

  /** @throws Error on a GPU */
  get directory(): string {
    if (this.#directory === null) throw new Error("a benchmark model on a GPU has no folder");
    return this.#directory;
  }

  async open(options: OpenOptions & { kvCacheTokens: number }): Promise<NativePolicy> {
    const { maxBatchTokens } = this.#sizes;
    const maxContextTokens = Math.min(this.#sizes.maxContextTokens, options.kvCacheTokens);
    const all = { maxContextTokens, maxBatchTokens, ...options };
    if (this.#directory !== null) {
      return await NativePolicy.load({ modelDir: this.#directory, device: "cpu", ...all });
    }
    return await NativePolicy.create(huggingFaceConfig(this.shape), 0n, {
      device: "cuda",
      weightDtype: "bfloat16",
      ...all,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#directory !== null) await rm(dirname(this.#directory), { recursive: true, force: true });
  }
}

export function huggingFaceConfig(shape: ModelShape): Record<string, unknown> {
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
