// One whole GRPO step with its phases, on the shapes of the TRL peer: 4 prompts x group 8, 64 + 64 tokens.
import {
  type Episode,
  groupAdvantages,
  type LossSettings,
  type Policy,
  packEpisodes,
  type Task,
  type Trainer,
} from "@wideseek/core";
import { RandomTokens } from "./bench-model.ts";
import type { Benchmark } from "./context.ts";
import { dtypeOf, figureName } from "./device.ts";
import { alternate, median } from "./measure.ts";
import type { Measurement } from "./record.ts";
import type { BenchSizes } from "./sizes.ts";
import { optimizerSettings } from "./train-step.ts";

const loss: LossSettings = {
  kind: "grpo",
  temperature: 1,
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 10,
  klCoefficient: 0,
};
const sampling = { temperature: 1, topP: 1, topK: 0, minP: 0 };
const question: Task = { kind: "qa", instanceId: "bench", question: "", language: "en", answers: [] };

/** One prompt and one completion of a full length: the peer's trainer has no agents. */
async function sampleEpisode(policy: Policy, promptIds: Int32Array, numNew: number, seed: bigint): Promise<Episode> {
  const request = { promptIds, maxNewTokens: numNew, seed, sampling, stopTokenIds: [] };
  const { tokenIds, logprobs, policyVersion } = await policy.generate(request);
  return {
    task: question,
    sample: 0,
    seed,
    workflow: "sa",
    seconds: 0,
    trajectories: [
      {
        agentId: "single",
        role: "single",
        prompt: "",
        segments: [
          { kind: "given", tokenIds: promptIds },
          { kind: "sampled", tokenIds, logprobs, policyVersion },
        ],
        stopReason: "answered",
        numTurns: 1,
        numSubagentCalls: 0,
        numSearches: 0,
        numAccesses: 0,
        numMalformedCalls: 0,
        answer: "",
        errors: [],
      },
    ],
  };
}

/** The peer's reward: share of different tokens. */
function reward(episode: Episode): number {
  const sampled = episode.trajectories[0]?.segments[1]?.tokenIds ?? new Int32Array();
  return new Set(sampled).size / sampled.length;
}

export type GrpoSizes = BenchSizes["grpo"];
type Phases = Record<"generate" | "pack" | "train" | "optimizer", number>;

async function grpoStep(
  policy: Trainer,
  tokens: RandomTokens,
  sizes: GrpoSizes,
  seed: bigint,
): Promise<{ seconds: number; phases: Phases }> {
  const marks = [performance.now()];
  const groups = await Promise.all(
    Array.from({ length: sizes.prompts }, (_, prompt) => {
      const promptIds = tokens.take(sizes.prompt);
      return Promise.all(
        Array.from({ length: sizes.group }, (_, sample) =>
          sampleEpisode(policy, promptIds, sizes.new, seed + BigInt(prompt * sizes.group + sample)),
        ),
      );
    }),
  );
  marks.push(performance.now());
  const maxTokens = sizes.prompts * sizes.group * (sizes.prompt + sizes.new);
  const batches = groups.flatMap((episodes) =>
    packEpisodes(episodes, groupAdvantages(episodes.map(reward)), { maxTokens, numGroups: sizes.prompts }),
  );
  marks.push(performance.now());
  for (const batch of batches) await policy.forwardBackward(batch, loss);
  marks.push(performance.now());
  await policy.optimizerStep(optimizerSettings);
  marks.push(performance.now());
  const between = (index: number): number => ((marks[index + 1] ?? 0) - (marks[index] ?? 0)) / 1000;
  const phases = { generate: between(0), pack: between(1), train: between(2), optimizer: between(3) };
  return { seconds: ((marks.at(-1) ?? 0) - (marks[0] ?? 0)) / 1000, phases };
}

export const grpoStepBenchmark: Benchmark = async function* (context) {
  const { shape, model, threads, rounds, torch } = context;
  const sizes = context.sizes.grpo;
  const numEpisodes = sizes.prompts * sizes.group;
  const maxTrainTokens = numEpisodes * (sizes.prompt + sizes.new);
  await using policy = await model.open({ threads, kvCacheTokens: 4 * maxTrainTokens, maxTrainTokens });
  const tokens = new RandomTokens(shape.vocabSize);
  let step = 0n;
  const peer = torch.find((candidate) => candidate.grpoStep !== null);
  const peerStep = peer?.grpoStep;
  const { ours, theirs } = await alternate<
    "ours" | "theirs",
    { seconds: number; phases: Record<string, number> } | null
  >(
    {
      ours: () => grpoStep(policy, tokens, sizes, step++ * 1000n),
      theirs: async () => (await peerStep?.run()) ?? null,
    },
    rounds,
  );
  const results = ours.filter((result) => result !== null);
  const peerResults = theirs.filter((result) => result !== null);
  const perSecond = results.map((result) => numEpisodes / result.seconds);
  const params = { shape: shape.name, dtype: dtypeOf(context.device), ...sizes };
  const figure = figureName(context, "grpo_step");
  const measured: Measurement[] = [
    { name: figure, unit: "episode/s", values: perSecond, params },
    ...(["generate", "pack", "train", "optimizer"] as const).map((phase): Measurement => {
      const values = results.map((result) => result.phases[phase] ?? 0);
      return { name: `${figure}.${phase}_seconds`, unit: "s", values, params };
    }),
  ];
  if (peerStep && peerResults.length > 0) {
    const peerPerSecond = peerResults.map((result) => numEpisodes / result.seconds);
    measured.push({
      name: `${figure}.vs_${peerStep.of}`,
      unit: "ratio",
      values: perSecond.map((value, round) => value / (peerPerSecond[round] ?? Number.NaN)),
      params: {
        ...params,
        oursEpisodesPerSecond: median(perSecond),
        peerEpisodesPerSecond: median(peerPerSecond),
        peerPhaseSeconds: peerResults[0]?.phases,
        peer: peer?.name,
      },
    });
  }
  yield* measured;
};
