// Golden cases on one device without a test runner: a JSON line a case with its largest relative error and the bound,
// and with the error of each quantity, which agreement.py prints of PyTorch in bfloat16 under the same names.
// Usage: node golden.ts [--device cpu|cuda] [--dtype float32|bfloat16] [--only PART OF A NAME]
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type CreateOptions, NativePolicy } from "../../packages/engine/src/index.ts";
import {
  goldenPath,
  packSequences,
  readJson,
  readTensors,
  relativeError,
  startEngine,
  valuesOf,
} from "../../test/golden/data.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    dtype: { type: "string", default: "float32" },
    only: { type: "string", default: "" },
  },
});
const device = values.device === "cpu" ? "cpu" : "cuda";
const weightDtype = values.dtype === "bfloat16" ? "bfloat16" : "float32";
/** Of the fp32 path. What bf16 may differ by is for a comparison with another bf16 implementation to say. */
const bound = weightDtype === "float32" ? 1e-4 : null;
const trainable = ["qwen2-nano", "qwen3-hd128", "qwen3-micro", "qwen3-nano"];
const models = [...trainable, "qwen3moe-nano"];

async function load(modelDir: string, options: CreateOptions = {}): Promise<NativePolicy> {
  // A cache of a given size: one that takes what a GPU has left would leave nothing to what runs beside this.
  const sizes = { threads: 2, maxContextTokens: 256, kvCacheTokens: 2048, maxTrainTokens: 1024 };
  return await NativePolicy.load({ modelDir, device, weightDtype, ...sizes, ...options });
}

/** Differences and norms of all that bears one name. */
class Pool {
  difference = 0;
  norm = 0;
}

/** The largest of what it was given; NaN counts as infinite. */
class Worst {
  value = 0;
  where = "";
  /** Tokens on another branch of a loss than they should be. */
  flipped = 0;
  readonly pools = new Map<string, Pool>();
  add(where: string, error: number): void {
    if (error <= this.value) return;
    this.value = Number.isNaN(error) ? Infinity : error;
    this.where = where;
  }
  /** `pool` names the quantity where several of one kind count as one: errors of a few numbers are chance. */
  compare(where: string, actual: ArrayLike<number>, expected: ArrayLike<number>, pool = where): void {
    this.add(where, relativeError(actual, expected));
    const sums = this.pools.get(pool) ?? new Pool();
    this.pools.set(pool, sums);
    for (let i = 0; i < expected.length; i++) {
      sums.difference += (Number(actual[i]) - Number(expected[i])) ** 2;
      sums.norm += Number(expected[i]) ** 2;
    }
  }
  /** Relative error by quantity; JSON has no infinity, so null stands for what is not finite. */
  errors(): Record<string, number | null> {
    const relative = ({ difference, norm }: Pool): number => Math.sqrt(difference / norm);
    const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);
    return Object.fromEntries([...this.pools].map(([name, pool]) => [name, finite(relative(pool))]));
  }
  number(where: string, actual: number, expected: number): void {
    this.add(where, expected === 0 ? Math.abs(actual) : Math.abs(actual / expected - 1));
  }
}

interface ForwardCase {
  sequences: number[][];
  logit_positions: Record<string, number[]>;
}

async function forward(model: string, worst: Worst): Promise<void> {
  const golden = readJson<ForwardCase>(`forward/${model}.json`);
  const tensors = await readTensors(`forward/${model}.safetensors`);
  await using policy = await load(goldenPath(`checkpoints/${model}`));
  const batch = packSequences(golden.sequences);
  const { logprobs } = await policy.logprobs(batch, 1);
  for (const [index, sequence] of golden.sequences.entries()) {
    const start = batch.cuSeqlens[index] as number;
    if (sequence.length > 1) {
      const ours = logprobs.subarray(start + 1, start + sequence.length);
      const expected = valuesOf(tensors, `logprobs_t1.${index}`);
      worst.compare(`logprobs of sequence ${index}`, ours, expected, "logprobs");
    }
    const logits = await policy.logits(Int32Array.from(sequence));
    const size = policy.vocabSize;
    const picked = (golden.logit_positions[String(index)] ?? []).flatMap((row) => [
      ...logits.subarray(row * size, (row + 1) * size),
    ]);
    if (picked.length > 0) {
      worst.compare(`logits of sequence ${index}`, picked, valuesOf(tensors, `logits.${index}`), "logits");
    }
  }
}

interface GradientCase {
  loss: number;
  target_tokens: number;
  storage: "full" | "sampled";
  params: Record<string, unknown>;
}

async function gradients(model: string, recompute: "none" | "full", worst: Worst): Promise<void> {
  const golden = readJson<GradientCase>(`grads/${model}.nll.json`);
  const tensors = await readTensors(`grads/${model}.nll.safetensors`);
  const { sequences } = readJson<ForwardCase>(`forward/${model}.json`);
  await using policy = await load(goldenPath(`checkpoints/${model}`), { recompute });
  const stats = await policy.forwardBackward(packSequences(sequences, 1 / golden.target_tokens), { kind: "nll" });
  worst.number("loss", stats.loss, golden.loss);
  for (const name of Object.keys(golden.params)) {
    const gradient = await policy.readTensor("gradient", name);
    if (golden.storage === "full") worst.compare(name, gradient, valuesOf(tensors, name));
    else {
      const sampled = Array.from(valuesOf(tensors, `${name}::idx`), (index) => gradient[index] as number);
      worst.compare(name, sampled, valuesOf(tensors, `${name}::val`));
    }
  }
}

interface GrpoCase {
  clip_low: number;
  clip_high: number;
  groups: { rollouts: { agents: { turns: number[] }[] }[] }[];
  sequences: { tokens: number[]; response_mask: number[] }[];
  configs: Record<
    string,
    {
      dual_clip_c: number | null;
      kl_beta: number;
      temperature: number;
      advantages: number[][];
      loss: number;
      response_tokens: number;
      ratio_mean: number;
      grad_global_l2: number;
      grad_full: boolean;
    }
  >;
}

/** A token's weight is 1/(groups * rollouts * agents * tokens of the agent). */
function grpoBatch(golden: GrpoCase, advantages: number[][]): ReturnType<typeof packSequences> {
  const batch = packSequences(golden.sequences.map((sequence) => sequence.tokens));
  for (const [b, { rollouts }] of golden.groups.entries()) {
    for (const [i, { agents }] of rollouts.entries()) {
      for (const { turns } of agents) {
        const trained = turns.flatMap((turn) => {
          const start = batch.cuSeqlens[turn] as number;
          return (golden.sequences[turn]?.response_mask ?? []).flatMap((bit, t) => (bit ? [start + t] : []));
        });
        for (const t of trained) {
          batch.lossWeights[t] = 1 / (golden.groups.length * rollouts.length * agents.length * trained.length);
          batch.advantages[t] = advantages[b]?.[i] ?? Number.NaN;
        }
      }
    }
  }
  return batch;
}

type Branch = "clipped" | "dual" | "free";

/** Which branch of the loss a token is on. */
function branch(ratio: number, advantage: number, clip: { low: number; high: number; dual: number }): Branch {
  if (advantage > 0) return ratio > 1 + clip.high ? "clipped" : "free";
  return ratio < 1 - clip.low ? "clipped" : ratio > clip.dual ? "dual" : "free";
}

/** Tokens that rounding has put on another branch than the golden data's: there a gradient jumps. */
function flippedTokens(
  batch: ReturnType<typeof grpoBatch>,
  logprobs: Float32Array,
  expected: ArrayLike<number>,
  clip: { low: number; high: number; dual: number },
): number {
  return batch.lossWeights.reduce((count, weight, t) => {
    if (weight === 0) return count;
    const advantage = batch.advantages[t] as number;
    const ratio = Math.exp((logprobs[t] as number) - (batch.behaviorLogprobs[t] as number));
    return count + Number(branch(ratio, advantage, clip) !== branch(expected[t] as number, advantage, clip));
  }, 0);
}

async function grpo(name: string, worst: Worst): Promise<void> {
  const golden = readJson<GrpoCase>("grpo/grpo.json");
  const tensors = await readTensors("grpo/grpo.safetensors");
  const config = golden.configs[name];
  if (!config) throw new Error(`the golden data has no configuration ${name}`);
  const warm = config.temperature !== 1;
  await using policy = await load(goldenPath("checkpoints/qwen3-nano"));
  const batch = grpoBatch(golden, config.advantages);
  batch.behaviorLogprobs.set(valuesOf(tensors, warm ? "old_logprobs_t07" : "old_logprobs"));
  const refLogprobs = Float32Array.from(valuesOf(tensors, "ref_logprobs"));
  if (config.grad_full && !warm) {
    const { logprobs } = await policy.logprobs(batch, 1);
    const clip = { low: golden.clip_low, high: golden.clip_high, dual: config.dual_clip_c ?? Infinity };
    worst.flipped = flippedTokens(batch, logprobs, valuesOf(tensors, "ratio"), clip);
  }
  const stats = await policy.forwardBackward(config.kl_beta > 0 ? { ...batch, refLogprobs } : batch, {
    kind: "grpo",
    temperature: config.temperature,
    clipLow: golden.clip_low,
    clipHigh: golden.clip_high,
    dualClip: config.dual_clip_c ?? Infinity,
    klCoefficient: config.kl_beta,
  });
  worst.number("loss", stats.loss, config.loss);
  worst.number("mean ratio", stats.sumRatio / config.response_tokens, config.ratio_mean);
  const full = config.grad_full ? await readTensors(`grpo/grads.${name}.safetensors`) : undefined;
  let squares = 0;
  for (const { name: parameter } of policy.parameters) {
    const gradient = await policy.readTensor("gradient", parameter);
    squares += gradient.reduce((sum, value) => sum + value * value, 0);
    if (full) worst.compare(parameter, gradient, valuesOf(full, parameter));
  }
  worst.number("gradient norm", Math.sqrt(squares), config.grad_global_l2);
}

async function yarn(worst: Worst): Promise<void> {
  const { tokens } = readJson<{ yarn_model: { tokens: number[] } }>("rope/rope.json").yarn_model;
  const tensors = await readTensors("rope/rope.safetensors");
  const directory = await mkdtemp(join(tmpdir(), "wideseek-yarn-"));
  try {
    await cp(goldenPath("checkpoints/qwen3-nano/model.safetensors"), join(directory, "model.safetensors"));
    await cp(goldenPath("rope/config.yarn.json"), join(directory, "config.json"));
    await using policy = await load(directory);
    const cuSeqlens = Int32Array.from([0, tokens.length]);
    const { logprobs } = await policy.logprobs({ tokenIds: Int32Array.from(tokens), cuSeqlens }, 1);
    worst.compare("logprobs", logprobs.subarray(1), valuesOf(tensors, "yarn_model.logprobs"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function greedy(worst: Worst): Promise<void> {
  interface Decoding {
    max_new_tokens: number;
    cases: { model: string; prompts: number[][]; greedy: number[][] }[];
  }
  const golden = readJson<Decoding>("decode/greedy.json");
  const sampling = { temperature: 0, topP: 1, topK: 0, minP: 0 };
  for (const { model, prompts, greedy: expected } of golden.cases) {
    if (!models.includes(model)) continue;
    await using policy = await load(goldenPath(`checkpoints/${model}`));
    const requests = prompts.map((prompt) => ({
      promptIds: Int32Array.from(prompt),
      maxNewTokens: golden.max_new_tokens,
      seed: 0n,
      sampling,
      stopTokenIds: [],
    }));
    const completions = await Promise.all(requests.map((request) => policy.generate(request)));
    for (const [n, completion] of completions.entries()) {
      const same = String([...completion.tokenIds]) === String(expected[n]);
      worst.add(`${model}, prompt ${n}: other tokens`, same ? 0 : Infinity);
    }
  }
}

const adamw = { learningRate: 1e-3, maxGradNorm: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };

async function threeSteps(worst: Worst): Promise<void> {
  const golden = readJson<{ train_3_steps: { f64: { losses: number[]; grad_norms: number[] } } }>("adamw/adamw.json");
  const { losses, grad_norms: norms } = golden.train_3_steps.f64;
  const final = await readTensors("adamw/train_3_steps.params.safetensors");
  const { sequences } = readJson<ForwardCase>("forward/qwen3-nano.json");
  const { engine, parameters } = await startEngine("checkpoints/qwen3-nano", device);
  const batch = packSequences(sequences, 1 / sequences.reduce((sum, sequence) => sum + sequence.length - 1, 0));
  for (let step = 0; step < 3; step++) {
    const { loss } = await engine.forwardBackward(batch, { kind: "nll" });
    worst.number(`loss of step ${step}`, loss, losses[step] as number);
    // The golden run decays norms as well, which the engine does not.
    for (const [index, { decayed }] of parameters.entries()) {
      if (decayed) continue;
      const weights = await engine.readTensor("weight", index);
      const decay = 1 - adamw.learningRate * adamw.weightDecay;
      await engine.writeTensor(
        "weight",
        index,
        weights.map((weight) => weight * decay),
      );
    }
    const { gradNorm } = await engine.optimizerStep(adamw);
    worst.number(`gradient norm of step ${step}`, gradNorm, norms[step] as number);
  }
  // Adam's first steps move by the sign of a gradient, so a gradient near 0 shows as a difference of the learning rate.
  for (const [index, { name }] of parameters.entries()) {
    worst.compare(`${name} after 3 steps`, await engine.readTensor("weight", index), valuesOf(final, name));
  }
  await engine.close();
}

const cases = new Map<string, (worst: Worst) => Promise<void>>();
for (const model of models) cases.set(`forward ${model}`, (worst) => forward(model, worst));
for (const model of trainable) cases.set(`gradients ${model}`, (worst) => gradients(model, "none", worst));
for (const model of ["qwen2-nano", "qwen3-nano"]) {
  cases.set(`gradients ${model}, recomputed`, (worst) => gradients(model, "full", worst));
}
for (const name of Object.keys(readJson<GrpoCase>("grpo/grpo.json").configs)) {
  cases.set(`grpo ${name}`, (worst) => grpo(name, worst));
}
cases.set("yarn qwen3-nano", yarn);
// Greedy tokens and Adam's steps are the fp32 path's alone.
if (weightDtype === "float32") {
  cases.set("greedy decoding", greedy);
  cases.set("three training steps", threeSteps);
}

let failed = 0;
for (const [name, run] of cases) {
  if (!name.includes(values.only)) continue;
  const worst = new Worst();
  let error: string | undefined;
  try {
    await run(worst);
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  const ok = error === undefined && Number.isFinite(worst.value) && (bound === null || worst.value < bound);
  if (!ok) failed++;
  // JSON has no infinity.
  const relative = Number.isFinite(worst.value) ? worst.value : "infinite";
  console.log(
    JSON.stringify({
      ...{ golden: name, dtype: weightDtype, device, ok, relative, bound, at: worst.where, error },
      ...(bound === null && { errors: worst.errors(), flipped: worst.flipped }),
    }),
  );
}
process.exitCode = failed === 0 ? 0 : 1;
