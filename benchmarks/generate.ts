// Prefill and decode speed, apart; beside transformers (or plain PyTorch) and llama.cpp where they are named.
import type { Policy } from "@wideseek/core";
import { RandomTokens } from "./bench-model.ts";
import type { Benchmark, BenchmarkContext } from "./context.ts";
import { dtypeOf, figureName } from "./device.ts";
import { alternate, median, ratios, timeSeconds } from "./measure.ts";
import type { LlamaCppPeer } from "./peers/llamacpp.ts";
import type { Measurement } from "./record.ts";

const greedy = { temperature: 0, topP: 1, topK: 0, minP: 0 };

async function prefill(policy: Policy, prompt: Int32Array): Promise<number> {
  const request = { promptIds: prompt, maxNewTokens: 1, seed: 0n, sampling: greedy, stopTokenIds: [] };
  return prompt.length / (await timeSeconds(() => policy.generate(request)));
}

interface Decoded {
  tokensPerSecond: number;
  tokenIds: Int32Array[];
}

/** Counts the tokens that came after every sequence had its first, so that no prefill is in it. */
async function decode(policy: Policy, prompts: readonly Int32Array[], numNew: number): Promise<Decoded> {
  const started = new Set<number>();
  let decodeStart = 0;
  let numDecoded = 0;
  const completions = await Promise.all(
    prompts.map((promptIds, index) =>
      policy.generate({
        promptIds,
        maxNewTokens: numNew,
        seed: BigInt(index),
        sampling: greedy,
        stopTokenIds: [],
        onToken: () => {
          if (started.size === prompts.length) numDecoded++;
          if (started.size < prompts.length && started.add(index).size === prompts.length) {
            decodeStart = performance.now();
          }
        },
      }),
    ),
  );
  const seconds = (performance.now() - decodeStart) / 1000;
  return { tokensPerSecond: numDecoded / seconds, tokenIds: completions.map((completion) => completion.tokenIds) };
}

/** Fresh prompts for every run: a cached prefix would not be computed. */
function freshPrompts(tokens: RandomTokens, batch: number, length: number): Int32Array[] {
  return Array.from({ length: batch }, () => tokens.take(length));
}

async function* measurePrefill(
  context: BenchmarkContext,
  policy: Policy,
  tokens: RandomTokens,
): AsyncGenerator<Measurement> {
  const { llamaCpp, rounds, shape } = context;
  for (const length of context.sizes.prefill) {
    const { ours, peer } = await alternate(
      {
        ours: () => prefill(policy, tokens.take(length)),
        peer: async () => (llamaCpp ? length / (await llamaCpp.prefill(tokens.take(length))).seconds : Number.NaN),
      },
      rounds,
    );
    const params = { shape: shape.name, dtype: dtypeOf(context.device), promptTokens: length };
    const name = figureName(context, "prefill", length);
    yield { name, unit: "token/s", values: ours, params };
    if (llamaCpp) {
      const absolute = { oursTokensPerSecond: median(ours), peerTokensPerSecond: median(peer), peer: llamaCpp.name };
      const values = ratios(ours, peer);
      yield {
        name: `${name}.vs_llamacpp`,
        unit: "ratio",
        values,
        params: { ...params, ...absolute },
      };
    }
  }
}

/** Share of equal greedy tokens: both run the same weights, so this says whether the comparison is of equal work. */
function agreement(ours: readonly Int32Array[], peer: readonly (readonly number[])[]): number {
  const pairs = ours.flatMap((ids, sequence) => [...ids].map((id, index) => id === peer[sequence]?.[index]));
  return pairs.filter(Boolean).length / pairs.length;
}

async function againstLlamaCpp(
  context: BenchmarkContext,
  peer: LlamaCppPeer,
  run: (prompts: readonly Int32Array[]) => Promise<Decoded>,
  prompts: () => Int32Array[],
  numNew: number,
): Promise<Omit<Measurement, "name">> {
  const pending: Int32Array[][] = [];
  const agreements: number[] = [];
  // Both get the same prompts: the first of a pair draws them, the second takes them.
  const shared = (): Int32Array[] => {
    const waiting = pending.pop();
    if (waiting) return waiting;
    const drawn = prompts();
    pending.push(drawn);
    return drawn;
  };
  let last: { ours?: Int32Array[]; peer?: number[][] } = {};
  const compare = (): void => {
    if (last.ours && last.peer) {
      agreements.push(agreement(last.ours, last.peer));
      last = {};
    }
  };
  const { ours, theirs } = await alternate(
    {
      ours: async () => {
        const { tokensPerSecond, tokenIds } = await run(shared());
        last.ours = tokenIds;
        compare();
        return tokensPerSecond;
      },
      theirs: async () => {
        const { decodeTokensPerSecond, tokenIds } = await peer.generate(shared(), numNew);
        last.peer = tokenIds;
        compare();
        return decodeTokensPerSecond;
      },
    },
    context.rounds,
  );
  return {
    unit: "ratio",
    values: ratios(ours, theirs),
    params: {
      shape: context.shape.name,
      oursTokensPerSecond: median(ours),
      peerTokensPerSecond: median(theirs),
      peer: peer.name,
      equalGreedyTokens: Math.min(...agreements),
    },
  };
}

export const generateBenchmark: Benchmark = async function* (context) {
  const { shape, model, rounds, threads } = context;
  const { batches, ...sizes } = context.sizes.decode;
  const longest = Math.max(4096, ...context.sizes.prefill.map((length) => length + 64));
  const kvCacheTokens = Math.max(longest, Math.max(...batches) * (sizes.prompt + sizes.new + 64));
  await using policy = await model.open({ threads, kvCacheTokens, maxTrainTokens: 64 });
  const tokens = new RandomTokens(shape.vocabSize);
  yield* measurePrefill(context, policy, tokens);

  for (const batch of batches) {
    const prompts = (): Int32Array[] => freshPrompts(tokens, batch, sizes.prompt);
    const ours = async (): Promise<number> => (await decode(policy, prompts(), sizes.new)).tokensPerSecond;
    const dtype = dtypeOf(context.device);
    const params = { shape: shape.name, dtype, batch, promptTokens: sizes.prompt, newTokens: sizes.new };
    const figure = figureName(context, "decode", batch);
    const peers = batch === 128 ? [] : context.torch;
    const peerRuns = peers.map((peer) => [peer.name, async () => (await peer.decode(batch)).tokensPerSecond] as const);
    const results = await alternate<string, number>({ ours, ...Object.fromEntries(peerRuns) }, rounds);
    const values = results.ours ?? [];
    yield { name: figure, unit: "token/s", values, params };

    const best = peers
      .map((peer) => ({ peer, rates: results[peer.name] ?? [] }))
      .sort((a, b) => median(b.rates) - median(a.rates))[0];
    if (best) {
      const against = best.peer.library === "transformers" ? "transformers" : "plain_torch";
      const absolute = {
        oursTokensPerSecond: median(values),
        peerTokensPerSecond: median(best.rates),
        peer: best.peer.name,
      };
      const name = `${figure}.vs_${against}`;
      yield { name, unit: "ratio", values: ratios(values, best.rates), params: { ...params, ...absolute } };
    }
    if (context.llamaCpp && batch <= 32) {
      const run = (batchPrompts: readonly Int32Array[]): Promise<Decoded> => decode(policy, batchPrompts, sizes.new);
      const comparison = await againstLlamaCpp(context, context.llamaCpp, run, prompts, sizes.new);
      yield {
        name: `${figure}.vs_llamacpp`,
        ...comparison,
        params: { ...params, ...comparison.params },
      };
    }
  }
};
