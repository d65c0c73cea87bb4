// Finds and reads the golden data. Needs no test runner: the acceptance run on a GPU host reads it too.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { NativeEngine, ParameterInfo } from "../../packages/engine/src/binding.ts";
import { loadWeights } from "../../packages/engine/src/checkpoint.ts";
import { loadAddon, openSafetensors, readModelConfig } from "../../packages/engine/src/index.ts";
import { sharedData } from "../shared-data.ts";

export const goldenRoot: string = resolve(sharedData, "golden");

export function goldenPath(path: string): string {
  return resolve(goldenRoot, path);
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(goldenPath(path), "utf8")) as T;
}

export interface GoldenTensor {
  shape: readonly number[];
  values: Float64Array | Float32Array | Int32Array | Uint8Array;
}

/** All tensors of one file. */
export async function readTensors(path: string): Promise<Map<string, GoldenTensor>> {
  await using file = await openSafetensors(goldenPath(path));
  const tensors = new Map<string, GoldenTensor>();
  for (const { name, dtype, shape } of file.tensors.values()) {
    const { buffer } = await file.read(name);
    const values =
      dtype === "F64"
        ? new Float64Array(buffer)
        : dtype === "F32"
          ? new Float32Array(buffer)
          : dtype === "I32"
            ? new Int32Array(buffer)
            : new Uint8Array(buffer);
    tensors.set(name, { shape, values });
  }
  return tensors;
}

/** A tensor that must be there. */
export function valuesOf(tensors: ReadonlyMap<string, GoldenTensor>, name: string): GoldenTensor["values"] {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`golden data lacks ${name}`);
  return tensor.values;
}

/** Largest |a - b|; NaN counts as infinite. */
export function maxAbsDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(Number(a[i]) - Number(b[i]));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

/** ||a - b|| / ||b||. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length}`);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (Number(a[i]) - Number(b[i])) ** 2;
    norm += Number(b[i]) ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** Statistics that stand for a whole tensor (golden README, `proj`). */
export interface TensorStats {
  l2: number;
  proj: number;
}
export function tensorStats(values: ArrayLike<number>): TensorStats {
  let squares = 0;
  let proj = 0;
  for (let k = 0; k < values.length; k++) {
    squares += Number(values[k]) ** 2;
    proj += Number(values[k]) * (Math.imul(k, 2654435761) / 2 ** 32 + (Math.imul(k, 2654435761) < 0 ? 1 : 0) - 0.5);
  }
  return { l2: Math.sqrt(squares), proj };
}

/** Sequences packed one after the other, each token but the first of a sequence weighted `weight`. */
export function packSequences(
  sequences: readonly (readonly number[])[],
  weight = 0,
): {
  tokenIds: Int32Array;
  cuSeqlens: Int32Array;
  lossWeights: Float32Array;
  advantages: Float32Array;
  behaviorLogprobs: Float32Array;
} {
  const tokenIds = Int32Array.from(sequences.flat());
  const cuSeqlens = new Int32Array(sequences.length + 1);
  const lossWeights = new Float32Array(tokenIds.length).fill(weight);
  for (const [index, sequence] of sequences.entries()) {
    const start = cuSeqlens[index] as number;
    cuSeqlens[index + 1] = start + sequence.length;
    lossWeights[start] = 0;
  }
  return {
    tokenIds,
    cuSeqlens,
    lossWeights,
    advantages: new Float32Array(tokenIds.length),
    behaviorLogprobs: new Float32Array(tokenIds.length),
  };
}

/** The engine below NativePolicy, for what a policy does not offer. */
export async function startEngine(
  checkpoint: string,
  device: "cpu" | "cuda" = "cpu",
): Promise<{ engine: NativeEngine; parameters: ParameterInfo[] }> {
  const directory = goldenPath(checkpoint);
  const { native: config } = await readModelConfig(directory);
  const engine = new (loadAddon().NativeEngine)({
    device,
    threads: 2,
    config,
    weightDtype: "float32",
    maxContextTokens: 256,
    kvCacheTokens: 256,
    maxBatchTokens: 64,
    maxDraftTokens: 0,
    maxTrainTokens: 1024,
    recompute: "none",
    gradientDtype: "float32",
    pinnedOptimizerState: false,
    trainWhileGenerating: false,
  });
  const { parameters } = await engine.info();
  await loadWeights(engine, parameters, config.tieWordEmbeddings, directory);
  return { engine, parameters };
}
