// What forest training saves on real episode trees: the shipped model plays a few groups of the embedded default, these
// are packed as a training step packs them, and forward_backward runs over the batches with and without sharing.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { groupAdvantages, loadConfig, loadPolicy, type PackedBatch, packEpisodes, runEpisode } from "@wideseek/core";
import { type ModelConfig, readModelConfig } from "@wideseek/engine";
import { openRunData } from "../packages/core/src/run-data.ts";
import { searchTools } from "../packages/tools/src/index.ts";
import type { Benchmark } from "./context.ts";
import { repositoryRoot } from "./record.ts";

/** The share of the gradient's norm by which sums in another order may differ in fp32. */
const MAX_DIFFERENCE = 1e-4;

interface Round {
  shared_seconds: number;
  apart_seconds: number;
}

interface Totals {
  packed_tokens: number;
  rows_apart: number;
  rows_shared: number;
  gradient_difference: number;
}

export const forestBenchmark: Benchmark = async function* ({ smoke, threads, rounds }) {
  const questions = smoke ? 1 : 4;
  const samples = smoke ? 2 : 8;
  const file = join(repositoryRoot, "configs/embedded.yaml");
  // The world of the default has thousands of questions; a few of the same kind are enough.
  const small = [
    "data.numTrainRegions=40",
    "data.numTrainTables=40",
    "data.numTrainFacts=0",
    "data.numHeldOutTables=1",
  ];
  const config = await loadConfig({ file, overrides: [...small, "data.numHeldOutRegions=10", "engine.device=cpu"] });
  const modelDir = join(repositoryRoot, config.model.directory);
  const batches = await playAndPack(config, modelDir, questions, samples);
  const { native } = await readModelConfig(modelDir);
  const { all, totals } = measure(native, batches, threads, rounds);
  const { packed_tokens, rows_apart, rows_shared, gradient_difference } = totals;
  if (!(gradient_difference < MAX_DIFFERENCE)) {
    throw new Error(`forest: gradients with and without sharing differ by ${gradient_difference} of their norm`);
  }
  const params = { config: "configs/embedded.yaml", questions, samples, packedTokens: packed_tokens };
  const tokens = { tokensBefore: rows_apart, tokensAfter: rows_shared };
  const saved = 1 - rows_shared / rows_apart;
  yield { name: "forest.embedded.saved_share", unit: "ratio", values: [saved], params: { ...params, ...tokens } };
  yield {
    name: "forest.embedded.speedup",
    unit: "ratio",
    values: all.map((round) => round.apart_seconds / round.shared_seconds),
    params: { ...params, ...tokens, gradientDifference: gradient_difference, model: config.model.directory },
  };
};

async function playAndPack(
  config: Awaited<ReturnType<typeof loadConfig>>,
  modelDir: string,
  questions: number,
  samples: number,
): Promise<PackedBatch[]> {
  await using policy = await loadPolicy({ modelDir, ...config.engine, maxTrainTokens: config.train.maxTokens });
  await using data = await openRunData(config.data, config.tools);
  const tools = searchTools({ backend: data.backend, options: config.tools });
  const { workflow, limits, promptStyle: prompts } = config.agents;
  const sampling = { temperature: config.train.temperature, topP: 1, topK: 0, minP: 0 };
  const signal = new AbortController().signal;
  const episodes = await Promise.all(
    data.trainTasks.slice(0, questions).flatMap((task, question) =>
      Array.from({ length: samples }, (_, sample) => {
        const seed = BigInt(1 + question * samples + sample);
        return runEpisode({ task, sample, seed, signal, policy, tools, workflow, limits, sampling, prompts });
      }),
    ),
  );
  // No question is left out for equal rewards: which are, hangs on how good the model is.
  const { values } = groupAdvantages(episodes.map((_, index) => index % 2));
  return packEpisodes(episodes, values, { maxTokens: config.train.maxTokens, numGroups: 1 });
}

function measure(
  config: ModelConfig["native"],
  batches: readonly PackedBatch[],
  threads: number,
  rounds: number,
): { all: Round[]; totals: Totals } {
  const { vocabSize, hiddenSize, numLayers, numHeads, numKvHeads, headDim, intermediateSize } = config;
  const input = [
    [vocabSize, hiddenSize, numLayers, numHeads, numKvHeads, headDim, intermediateSize, config.maxPositionEmbeddings],
    [batches.length],
    ...batches.flatMap(({ tokenIds, cuSeqlens, lossWeights }) => [
      [tokenIds.length, cuSeqlens.length - 1],
      tokenIds,
      cuSeqlens,
      lossWeights,
    ]),
  ];
  const program = join(repositoryRoot, "native/build/forest_bench");
  const { status, stdout, stderr, error } = spawnSync(program, [String(threads), String(rounds)], {
    input: input.map((numbers) => numbers.join(" ")).join("\n"),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  return { all: lines.slice(0, -1) as Round[], totals: lines.at(-1) as Totals };
}
