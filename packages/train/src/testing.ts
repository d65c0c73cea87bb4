// Small episodes and a trainer without a model, for the tests of this package. Owns no behaviour of the real ones.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type {
  Completion,
  Episode,
  LossStats,
  OptimizerStepResult,
  PackedBatch,
  Role,
  Segment,
  Trainer,
  Trajectory,
} from "@wideseek/spec";

/** Segment lengths: given and sampled in turn. */
export function trajectory(lengths: readonly number[], role: Role = "lead", policyVersion = 0n): Trajectory {
  let next = 0;
  const segments = lengths.map((length, index): Segment => {
    const tokenIds = Int32Array.from({ length }, () => next++);
    if (index % 2 === 0) return { kind: "given", tokenIds };
    return { kind: "sampled", tokenIds, logprobs: Float32Array.from(tokenIds, (id) => -id / 8), policyVersion };
  });
  return {
    agentId: role,
    role,
    prompt: "question",
    segments,
    stopReason: "answered",
    numTurns: lengths.length >> 1,
    numSubagentCalls: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer: "answer",
    errors: [],
  };
}

export function episode(trajectories: Trajectory[], sample = 0, seed = 0n): Episode {
  const task = { kind: "qa", instanceId: "q", question: "question", language: "en", answers: ["answer"] } as const;
  return { task, sample, seed, workflow: "mas", trajectories, seconds: 0 };
}

/** A "model" of one number that every step changes by what it was fed: enough to see order, loss and resume. */
export class FakeTrainer implements Trainer {
  readonly maxContextTokens = 1024;
  readonly vocabSize = 1024;
  version = 0n;
  weight = 1;
  #gradient = 0;
  batches: PackedBatch[] = [];

  async generate(): Promise<Completion> {
    throw new Error("this trainer does not generate");
  }

  async forwardBackward(batch: PackedBatch): Promise<LossStats> {
    this.batches.push(batch);
    const terms = [...batch.lossWeights].map((weight, t) => weight * ((batch.advantages[t] ?? 0) + this.weight));
    const loss = terms.reduce((sum, term) => sum + term, 0);
    this.#gradient += loss;
    const numTokens = batch.lossWeights.filter((weight) => weight !== 0).length;
    const zeros = { policyLoss: loss, sumKlK1: 0, sumKlK3: 0, sumRefKlK3: 0, maxAbsLogprobDiff: 0 };
    const counts = { numClippedLow: 0, numClippedHigh: 0, numDualClipped: 0 };
    const ratios = { sumRatio: numTokens, maxRatio: 1, minRatio: 1 };
    return { numTokens, loss, ...zeros, ...counts, ...ratios, sumEntropy: numTokens, sumNll: numTokens * this.weight };
  }

  async logprobs(batch: Pick<PackedBatch, "tokenIds">): Promise<{ logprobs: Float32Array; entropies: Float32Array }> {
    const logprobs = new Float32Array(batch.tokenIds.length).fill(-this.weight);
    return { logprobs, entropies: new Float32Array(batch.tokenIds.length) };
  }

  async optimizerStep({ learningRate }: { learningRate: number }): Promise<OptimizerStepResult> {
    const gradNorm = Math.abs(this.#gradient);
    this.weight -= learningRate * this.#gradient;
    this.#gradient = 0;
    this.version += 1n;
    return { gradNorm, skipped: false };
  }

  async saveWeights(directory: string): Promise<void> {
    await this.saveCheckpoint(directory);
  }

  async saveCheckpoint(directory: string): Promise<void> {
    await mkdir(directory);
    const state = { weight: this.weight, version: this.version.toString() };
    await writeFile(path.join(directory, "weight.json"), JSON.stringify(state));
  }

  async loadCheckpoint(directory: string): Promise<void> {
    const state = JSON.parse(await readFile(path.join(directory, "weight.json"), "utf8"));
    this.weight = state.weight;
    this.version = BigInt(state.version);
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
