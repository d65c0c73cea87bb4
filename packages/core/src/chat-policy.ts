// A Trainer with its tokenizer: what people hold after loadPolicy. Owns defaults of losses and optimizer, no weights.
import type { EngineStats, NativePolicy } from "@wideseek/engine";
import type {
  Completion,
  GenerateRequest,
  LossSettings,
  LossStats,
  OptimizerSettings,
  OptimizerStepResult,
  PackedBatch,
  TokenLogprobs,
  Trainer,
} from "@wideseek/spec";
import type { ChatTokenizer } from "@wideseek/text";

type GrpoSettings = Extract<LossSettings, { kind: "grpo" }>;
/** GRPO settings are the published ones where they are left out. */
export type LossInput = Partial<GrpoSettings> | { kind: "nll" };
/** AdamW settings are the published ones where they are left out. */
export type OptimizerInput = Pick<OptimizerSettings, "learningRate"> & Partial<OptimizerSettings>;

const defaultLoss: GrpoSettings = {
  kind: "grpo",
  temperature: 1,
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 10,
  klCoefficient: 0,
};
const defaultOptimizer: Omit<OptimizerSettings, "learningRate"> = {
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-5,
  weightDecay: 0.01,
};

export class ChatPolicy implements Trainer {
  readonly chat: ChatTokenizer;
  readonly #trainer: NativePolicy;

  constructor(trainer: NativePolicy, chat: ChatTokenizer) {
    this.#trainer = trainer;
    this.chat = chat;
  }

  get maxContextTokens(): number {
    return this.#trainer.maxContextTokens;
  }

  get vocabSize(): number {
    return this.#trainer.vocabSize;
  }

  get version(): bigint {
    return this.#trainer.version;
  }

  /** Counters of generation and memory by purpose. */
  engineStats(): Promise<EngineStats> {
    return this.#trainer.stats();
  }

  /** One line for people: size, device, and why it is that device. */
  describe(): string {
    const { parameters, device, deviceNote, maxContextTokens } = this.#trainer;
    const sizes = parameters.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
    const millions = sizes.reduce((sum, size) => sum + size, 0) / 1e6;
    // A machine that has no GPU is not to be told so at every run.
    const isPlainCpu = deviceNote?.includes("driver is not installed") ?? true;
    const note = isPlainCpu ? "" : ` (${deviceNote})`;
    return `${millions.toFixed(2)} M parameters on ${device}${note}, contexts of at most ${maxContextTokens} tokens`;
  }

  generate(request: GenerateRequest): Promise<Completion> {
    return this.#trainer.generate(request);
  }

  forwardBackward(batch: PackedBatch, loss: LossInput = {}): Promise<LossStats> {
    const settings = loss.kind === "nll" ? loss : { ...defaultLoss, ...loss };
    return this.#trainer.forwardBackward(batch, settings);
  }

  logprobs(batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">, temperature: number = 1): Promise<TokenLogprobs> {
    return this.#trainer.logprobs(batch, temperature);
  }

  optimizerStep(settings: OptimizerInput): Promise<OptimizerStepResult> {
    return this.#trainer.optimizerStep({ ...defaultOptimizer, ...settings });
  }

  saveWeights(directory: string): Promise<void> {
    return this.#trainer.saveWeights(directory);
  }

  saveCheckpoint(directory: string): Promise<void> {
    return this.#trainer.saveCheckpoint(directory);
  }

  loadCheckpoint(directory: string): Promise<void> {
    return this.#trainer.loadCheckpoint(directory);
  }

  close(): Promise<void> {
    return this.#trainer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
