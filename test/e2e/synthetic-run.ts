// For tests: a GRPO run with real agents, tools and engine, and a reward that a random model can earn: even token ids.
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { runPausableEpisode } from "../../packages/agents/src/index.ts";
import type { ChatPolicy } from "../../packages/core/src/chat-policy.ts";
import { loadPolicy } from "../../packages/core/src/index.ts";
import { openRunData } from "../../packages/core/src/run-data.ts";
import { TaskOrder } from "../../packages/data/src/index.ts";
import type { Episode, PackedBatch, RewardBreakdown, Task, TokenLogprobs } from "../../packages/spec/src/index.ts";
import { searchTools } from "../../packages/tools/src/index.ts";
import { Run, type TrainOptions, trainLoop } from "../../packages/train/src/index.ts";
import type { Workspace } from "./workspace.ts";

const SEED = 3;

/** The reward of the synthetic run: the share of sampled ids that are even. */
export const evenTokens = {
  async score(episode: Episode): Promise<RewardBreakdown> {
    const sampled = episode.trajectories
      .flatMap((trajectory) => trajectory.segments)
      .filter((segment) => segment.kind === "sampled")
      .flatMap((segment) => [...segment.tokenIds]);
    const total = sampled.filter((id) => id % 2 === 0).length / sampled.length;
    return { judged: true, score: total, formatReward: 0, toolReward: 0, lengthPenalty: 0, total, reason: "" };
  },

  async logprobsOf(
    weights: string,
    tokenizer: string,
    batch: Pick<PackedBatch, "tokenIds" | "cuSeqlens">,
  ): Promise<TokenLogprobs> {
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      await copyFile(path.join(tokenizer, name), path.join(weights, name));
    }
    await using policy = await loadPolicy({ modelDir: weights, device: "cpu" });
    return await policy.logprobs(batch);
  },
};

/** Trains, or goes on training, in `directory`. */
export async function trainSynthetic(
  { model, config }: Pick<Workspace, "model" | "config">,
  directory: string,
  overrides: Partial<TrainOptions>,
  after?: (policy: ChatPolicy) => Promise<void>,
  stop?: { signal: AbortSignal; onStep: (step: number) => void },
): Promise<void> {
  const options: TrainOptions = {
    ...config.train,
    groupSize: 4,
    questionsPerStep: 2,
    learningRate: 1e-3,
    checkpointEvery: 5,
    evalEvery: 0,
    ...overrides,
  };
  await using data = await openRunData(config.data, config.tools);
  const tools = searchTools({ backend: data.backend, options: config.tools });
  const load = (trainWhileGenerating = false): Promise<ChatPolicy> =>
    loadPolicy({ modelDir: model, device: "cpu", threads: 2, maxTrainTokens: 8192, trainWhileGenerating });
  await using policy = await load(options.staleness > 0);
  await using reference = options.klCoefficient > 0 ? await load() : undefined;
  await using run = await Run.open(
    { directory, seed: SEED, configText: "", configHash: "synthetic", traces: { tokenIds: true } },
    policy,
  );
  const straggling = new Set<string>();
  const order = new TaskOrder(SEED, data.trainTasks.length);
  const { limits } = config.agents;
  await trainLoop({
    policy,
    reference,
    run,
    options,
    seed: SEED,
    taskAt: (cursor) => {
      const task = data.trainTasks[order.at(cursor)] as Task;
      if (cursor % 2 === 1) straggling.add(task.instanceId);
      else straggling.delete(task.instanceId);
      return task;
    },
    runEpisode: async (request) => {
      const { task, sample, pause, resume } = request;
      // Which episodes straggle must not depend on the machine: those that wait for the pause do.
      if (pause && !resume && sample === 0 && straggling.has(task.instanceId) && !pause.aborted) {
        await new Promise((resolve) => pause.addEventListener("abort", resolve));
      }
      return await runPausableEpisode({ ...request, policy, chat: policy.chat, tools, limits, prompts: "compact" });
    },
    score: evenTokens.score,
    engineMetrics: async () => {
      stop?.onStep(run.step + 1);
      return {};
    },
    signal: stop?.signal,
  });
  await after?.(policy);
}
