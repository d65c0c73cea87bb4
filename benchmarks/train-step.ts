// A whole training step (forward, backward, clip, AdamW), the log-probability pass, and the memory they need.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { PackedBatch, Trainer } from "@wideseek/core";
import { RandomTokens } from "./bench-model.ts";
import type { Benchmark, BenchmarkContext } from "./context.ts";
import { dtypeOf, figureName } from "./device.ts";
import { alternate, median, ratios, timeSeconds } from "./measure.ts";
import type { PeerResult } from "./peers/torch.ts";
import type { Measurement } from "./record.ts";

export const optimizerSettings = {
  learningRate: 1e-5,
  maxGradNorm: 1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
};

/** `batch` sequences of `length` random tokens, every predicted token with the same weight. */
export function randomBatch(tokens: RandomTokens, { batch, length }: { batch: number; length: number }): PackedBatch {
  const numTokens = batch * length;
  const weight = 1 / (batch * (length - 1));
  return {
    tokenIds: tokens.take(numTokens),
    cuSeqlens: Int32Array.from({ length: batch + 1 }, (_, index) => index * length),
    lossWeights: Float32Array.from({ length: numTokens }, (_, index) => (index % length === 0 ? 0 : weight)),
    advantages: new Float32Array(numTokens),
    behaviorLogprobs: new Float32Array(numTokens),
  };
}

export async function trainStep(policy: Trainer, batch: PackedBatch): Promise<void> {
  await policy.forwardBackward(batch, { kind: "nll" });
  await policy.optimizerStep(optimizerSettings);
}

/** Peak resident memory of a process that only trains. */
function peakTrainingBytes({ model, threads, smoke }: BenchmarkContext): number {
  const script = fileURLToPath(new URL("peak-memory.ts", import.meta.url));
  const args = [...process.execArgv, script, model.directory, String(threads), smoke ? "smoke" : "full"];
  return Number(execFileSync(process.execPath, args, { encoding: "utf8" }).trim());
}

export const trainStepBenchmark: Benchmark = async function* (context) {
  const { shape, model, threads, rounds, device } = context;
  const { train: trainSizes, logprob: logprobSizes } = context.sizes;
  await using policy = await model.open({
    threads,
    kvCacheTokens: 1024,
    maxTrainTokens: trainSizes.batch * trainSizes.length,
  });
  const tokens = new RandomTokens(shape.vocabSize);
  const rate = async (sizes: typeof trainSizes, run: (batch: PackedBatch) => Promise<unknown>): Promise<PeerResult> => {
    const batch = randomBatch(tokens, sizes);
    return { tokensPerSecond: (sizes.batch * sizes.length) / (await timeSeconds(() => run(batch))), peakBytes: 0 };
  };

  const training = await alternate<string, PeerResult>(
    {
      ours: () => rate(trainSizes, (batch) => trainStep(policy, batch)),
      ...Object.fromEntries(context.torch.map((peer) => [peer.name, () => peer.trainStep()])),
    },
    rounds,
  );
  const params = { shape: shape.name, dtype: dtypeOf(device) };
  // Without transformers the peer is our own plain model: that figure must not pass for the one against Hugging Face.
  const against = context.torch.every((peer) => peer.library === "transformers") ? "torch" : "plain_torch";
  yield* compare(figureName(context, "train_step"), against, training, { ...params, ...trainSizes });
  const scoring = await alternate<string, PeerResult>(
    {
      ours: () => rate(logprobSizes, (batch) => policy.logprobs(batch, 1)),
      ...Object.fromEntries(context.torch.map((peer) => [peer.name, () => peer.logprobs()])),
    },
    rounds,
  );
  yield* compare(figureName(context, "logprob"), against, scoring, { ...params, ...logprobSizes });
  if (device.kind === "cuda") {
    const { memory } = await policy.stats();
    const name = `${figureName(context, "train_step")}.peak_mb`;
    yield {
      name,
      unit: "MB",
      values: [(memory.peakMiB * 2 ** 20) / 1e6],
      params: { ...params, ...trainSizes, ...memory },
    };
    return;
  }
  const peak = peakTrainingBytes(context);
  yield { name: "cpu.train_step.peak_mb", unit: "MB", values: [peak / 1e6], params: { ...params, ...trainSizes } };
  yield* compareMemory(peak, against, training, { ...params, ...trainSizes });
};

const rates = (results: readonly PeerResult[] = []): number[] => results.map((result) => result.tokensPerSecond);

/** Our speed, and the ratio to the faster of the peers. */
function compare(
  name: string,
  against: string,
  results: Record<string, PeerResult[]>,
  params: Measurement["params"],
): Measurement[] {
  const { ours, ...peers } = results;
  const measured: Measurement[] = [{ name, unit: "token/s", values: rates(ours), params }];
  const best = Object.entries(peers).sort(([, a], [, b]) => median(rates(b)) - median(rates(a)))[0];
  if (best) {
    const [peer, peerResults] = best;
    const absolute = {
      oursTokensPerSecond: median(rates(ours)),
      peerTokensPerSecond: median(rates(peerResults)),
      peer,
    };
    const values = ratios(rates(ours), rates(peerResults));
    measured.push({ name: `${name}.vs_${against}`, unit: "ratio", values, params: { ...params, ...absolute } });
  }
  return measured;
}

/** Against the most frugal peer. */
function compareMemory(
  peak: number,
  against: string,
  results: Record<string, PeerResult[]>,
  params: Measurement["params"],
): Measurement[] {
  const { ours: _, ...peers } = results;
  const peaks = Object.entries(peers).map(([peer, found]) => ({
    peer,
    bytes: Math.max(...found.map((result) => result.peakBytes)),
  }));
  const least = peaks.sort((a, b) => a.bytes - b.bytes)[0];
  if (!least) return [];
  const absolute = { oursMegabytes: peak / 1e6, peerMegabytes: least.bytes / 1e6, peer: least.peer };
  const values = [peak / least.bytes];
  return [{ name: `cpu.train_step.rss_vs_${against}`, unit: "ratio", values, params: { ...params, ...absolute } }];
}
