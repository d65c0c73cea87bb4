// The model that agents sample from and the trainer updates, on the native engine. Owns the engine's life.
import {
  type Completion,
  errorMessage,
  type GenerateRequest,
  type LossSettings,
  type LossStats,
  type OptimizerSettings,
  type OptimizerStepResult,
  type PackedBatch,
  type TokenLogprobs,
  type Trainer,
  WideSeekError,
} from "@wideseek/spec";
import { loadAddon } from "./addon.ts";
import type { EngineStats, NativeEngine, ParameterInfo, TensorKind } from "./binding.ts";
import { loadWeights, openCheckpoint, saveCheckpoint, saveWeights } from "./checkpoint.ts";
import { checkTrainable, type ModelConfig, parseModelConfig, readModelConfig } from "./model-config.ts";
import { fromNative } from "./native-error.ts";
import {
  type CreateOptions,
  engineLimits,
  type LoadOptions,
  type ResolvedCreateOptions,
  resolveCreateOptions,
  resolveLoadOptions,
} from "./options.ts";
import {
  checkGenerateRequest,
  checkOptimizerSettings,
  checkPrompt,
  checkTemperature,
  checkTokenBatch,
  checkTrainingBatch,
  type PolicyLimits,
} from "./validate.ts";

/** What a policy is made of once the engine runs. */
interface Parts {
  engine: NativeEngine;
  config: ModelConfig;
  options: ResolvedCreateOptions;
  limits: PolicyLimits;
  device: string;
  deviceNote: string | undefined;
  parameters: readonly ParameterInfo[];
}

export class NativePolicy implements Trainer {
  readonly maxContextTokens: number;
  readonly vocabSize: number;
  readonly maxTrainTokens: number;
  /** The device that is really used. */
  readonly device: string;
  /** Why "auto" did not take a GPU. */
  readonly deviceNote: string | undefined;
  /** In checkpoint order; the index into it is what `readTensor` means by a name. */
  readonly parameters: readonly ParameterInfo[];
  readonly #parts: Parts;
  #version = 0n;
  #closing: Promise<void> | undefined;

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.maxContextTokens = parts.limits.maxContextTokens;
    this.vocabSize = parts.limits.vocabSize;
    this.maxTrainTokens = parts.limits.maxTrainTokens;
    this.device = parts.device;
    this.deviceNote = parts.deviceNote;
    this.parameters = parts.parameters;
  }

  /** Loads a Hugging Face folder. @throws WS_INVALID_ARGUMENT, WS_IO, WS_CORRUPT_FILE, WS_UNSUPPORTED, WS_OUT_OF_MEMORY */
  static async load(options: LoadOptions): Promise<NativePolicy> {
    const { modelDir, ...engineOptions } = resolveLoadOptions(options);
    const config = await readModelConfig(modelDir);
    return await NativePolicy.#start(config, engineOptions, async ({ engine, parameters }) => {
      await loadWeights(engine, parameters, config.native.tieWordEmbeddings, modelDir);
    });
  }

  /** Random weights for a config.json object: normal with its `initializer_range`. @throws as load */
  static async create(config: unknown, seed: bigint, options: CreateOptions = {}): Promise<NativePolicy> {
    const parsed = parseModelConfig(config);
    return await NativePolicy.#start(parsed, resolveCreateOptions(options), async ({ engine }) => {
      await engine.initialize(seed, parsed.initializerRange);
    });
  }

  static async #start(
    config: ModelConfig,
    options: ResolvedCreateOptions,
    fill: (parts: Parts) => Promise<void>,
  ): Promise<NativePolicy> {
    const parts = await startEngine(config, options);
    try {
      await fromNative(async () => await fill(parts));
    } catch (error) {
      await parts.engine.close();
      throw error;
    }
    return new NativePolicy(parts);
  }

  get version(): bigint {
    return this.#version;
  }

  async generate(request: GenerateRequest): Promise<Completion> {
    checkGenerateRequest(request, this.#parts.limits);
    const { signal, onToken, stopTokenIds, ...rest } = request;
    signal?.throwIfAborted();
    const { engine } = this.#parts;
    // What the caller's own callback threw; it ends the request.
    let callbackFailure: { error: unknown } | undefined;
    return await fromNative(async () => {
      const handle = engine.generate(
        { ...rest, stopTokenIds: Int32Array.from(stopTokenIds) },
        onToken &&
          ((tokenId) => {
            if (callbackFailure || signal?.aborted) return;
            try {
              onToken(tokenId);
            } catch (error) {
              callbackFailure = { error };
              engine.cancel(handle.key);
            }
          }),
      );
      const cancel = (): void => engine.cancel(handle.key);
      signal?.addEventListener("abort", cancel, { once: true });
      // Also if the completion won the race: the caller has been told that it is aborted.
      const throwIfEnded = (): void => {
        signal?.throwIfAborted();
        if (callbackFailure) throw callbackFailure.error;
      };
      try {
        const completion = await handle.completion;
        throwIfEnded();
        return completion;
      } catch (error) {
        throwIfEnded();
        throw error;
      } finally {
        signal?.removeEventListener("abort", cancel);
      }
    });
  }

  /** Logits of every position of one sequence, float32 [T * vocabSize]. @throws WS_INVALID_ARGUMENT */
  async logits(tokenIds: Int32Array): Promise<Float32Array> {
    checkPrompt("logits", "tokenIds", tokenIds, this.#parts.limits);
    return await fromNative(() => this.#parts.engine.logits(tokenIds));
  }

  async logprobs(batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">, temperature: number): Promise<TokenLogprobs> {
    checkTokenBatch("logprobs", batch, this.#parts.limits);
    checkTemperature("logprobs", temperature);
    return await fromNative(() => this.#parts.engine.logprobs(batch, temperature));
  }

  /** @throws WS_UNSUPPORTED for a mixture of experts, here and where moments are read or written */
  async forwardBackward(batch: PackedBatch, loss: LossSettings): Promise<LossStats> {
    checkTrainable(this.#parts.config, "forwardBackward");
    checkTrainingBatch(batch, loss, this.#parts.limits);
    return await fromNative(() => this.#parts.engine.forwardBackward(batch, loss));
  }

  async optimizerStep(settings: OptimizerSettings): Promise<OptimizerStepResult> {
    checkTrainable(this.#parts.config, "optimizerStep");
    checkOptimizerSettings(settings);
    const result = await fromNative(() => this.#parts.engine.optimizerStep(settings));
    if (!result.skipped) this.#version += 1n;
    return result;
  }

  /** Drops accumulated gradients. */
  async zeroGradients(): Promise<void> {
    await fromNative(() => this.#parts.engine.zeroGradients());
  }

  /** A copy, row-major float32. @throws WS_INVALID_ARGUMENT if there is no such parameter */
  async readTensor(kind: TensorKind, name: string): Promise<Float32Array> {
    const index = this.parameters.findIndex((parameter) => parameter.name === name);
    if (index < 0) throw new WideSeekError("WS_INVALID_ARGUMENT", `readTensor: no parameter ${JSON.stringify(name)}`);
    return await fromNative(() => this.#parts.engine.readTensor(kind, index));
  }

  async stats(): Promise<EngineStats> {
    return await fromNative(() => this.#parts.engine.stats());
  }

  async saveWeights(directory: string): Promise<void> {
    const { engine, config, options } = this.#parts;
    await fromNative(() => saveWeights(engine, this.parameters, config.raw, options.weightDtype, directory));
  }

  async saveCheckpoint(directory: string): Promise<void> {
    checkTrainable(this.#parts.config, "saveCheckpoint");
    await fromNative(() => saveCheckpoint(this.#parts.engine, this.parameters, this.#parts.config.raw, directory));
  }

  /** Checks all files before it changes anything. Accumulated gradients are dropped. */
  async loadCheckpoint(directory: string): Promise<void> {
    checkTrainable(this.#parts.config, "loadCheckpoint");
    await fromNative(async () => {
      await using checkpoint = await openCheckpoint(this.#parts.engine, this.parameters, directory);
      await checkpoint.apply();
      this.#version = checkpoint.policyVersion;
    });
  }

  async close(): Promise<void> {
    this.#closing ??= this.#parts.engine.close();
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function startEngine(config: ModelConfig, options: ResolvedCreateOptions): Promise<Parts> {
  const { threads, maxContextTokens, kvCacheTokens } = engineLimits(options, config.native);
  if (maxContextTokens > config.native.maxPositionEmbeddings) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `maxContextTokens is ${maxContextTokens}, the model allows ${config.native.maxPositionEmbeddings}`,
      { op: "NativePolicy" },
    );
  }
  const { NativeEngine } = loadAddon();
  const start = async (device: "cpu" | "cuda"): Promise<Omit<Parts, "deviceNote">> => {
    const engine = new NativeEngine({
      device,
      threads,
      config: config.native,
      weightDtype: options.weightDtype,
      maxContextTokens,
      // 0: the engine sizes it by the memory of the GPU.
      kvCacheTokens: device === "cuda" ? (options.kvCacheTokens ?? 0) : kvCacheTokens,
      maxBatchTokens: options.maxBatchTokens,
      maxDraftTokens: options.maxDraftTokens,
      maxTrainTokens: options.maxTrainTokens,
      recompute: options.recompute,
      gradientDtype: options.gradientDtype,
      pinnedOptimizerState: options.pinnedOptimizerState,
      trainWhileGenerating: options.trainWhileGenerating,
    });
    try {
      const info = await engine.info();
      const limits = { vocabSize: config.native.vocabSize, maxContextTokens, maxTrainTokens: options.maxTrainTokens };
      return { engine, config, options, limits, device: info.device, parameters: info.parameters };
    } catch (error) {
      await engine.close();
      throw error;
    }
  };
  return await fromNative(async () => {
    if (options.device !== "auto") return { ...(await start(options.device)), deviceNote: undefined };
    try {
      return { ...(await start("cuda")), deviceNote: undefined };
    } catch (error) {
      if (!isUnsupported(error)) throw error;
      return { ...(await start("cpu")), deviceNote: `running on the CPU: ${reasonOf(error)}` };
    }
  });
}

/** The sentence of a native error without the operation that it begins with. */
function reasonOf(error: unknown): string {
  const op = error instanceof Error && "op" in error ? `${String(error.op)}: ` : "";
  return errorMessage(error).replace(op, "");
}

function isUnsupported(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "WS_UNSUPPORTED";
}
