// Who plays the rollout benchmark: the shipped model in the embedded world, or teams of a fixed form on random weights,
// which cannot call tools. Owns the simulated latency of their tools, no timing.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Episode,
  loadConfig,
  loadPolicy,
  type Policy,
  type RewardBreakdown,
  type Segment,
  type Toolset,
  type Trainer,
  type Trajectory,
} from "@wideseek/core";
import type { EngineStats } from "@wideseek/engine";
import { runPausableEpisode } from "../packages/agents/src/index.ts";
import { openRunData } from "../packages/core/src/run-data.ts";
import { RuleJudge, scoreEpisode } from "../packages/rewards/src/index.ts";
import { searchTools } from "../packages/tools/src/index.ts";
import { type RolloutParts, type TrainOptions, trainOptionsSchema } from "../packages/train/src/index.ts";
import { RandomTokens } from "./bench-model.ts";
import { type LatencyShape, latencySeconds } from "./busy.ts";
import type { BenchmarkContext } from "./context.ts";
import { repositoryRoot } from "./record.ts";

export interface RolloutTeams extends AsyncDisposable {
  name: string;
  policy: Trainer;
  stats(): Promise<EngineStats>;
  options: TrainOptions;
  /** Episodes through `policy`, which may be a wrapper of the teams' own. */
  parts(policy: Policy): Pick<RolloutParts, "runEpisode" | "score" | "taskAt">;
}

export interface TeamSizes {
  questions: number;
  groupSize: number;
  latency: LatencyShape;
}

const neverAborted = new AbortController().signal;

/** Real agents, prompts, tokenizer, search and scoring; only the waiting is made up. */
export async function shippedTeams(
  threads: number,
  { questions, groupSize, latency }: TeamSizes,
): Promise<RolloutTeams> {
  const small = ["numTrainRegions=40", "numTrainTables=40", "numTrainFacts=0", "numHeldOutTables=1"];
  const config = await loadConfig({
    file: join(repositoryRoot, "configs/embedded.yaml"),
    overrides: [...small.map((setting) => `data.${setting}`), "data.numHeldOutRegions=10", "engine.device=cpu"],
  });
  const options = { ...config.train, questionsPerStep: questions, groupSize };
  const modelDir = join(repositoryRoot, config.model.directory);
  const policy = await loadPolicy({ modelDir, ...config.engine, threads, maxTrainTokens: options.maxTokens });
  const data = await openRunData(config.data, config.tools);
  const tools = slowTools(searchTools({ backend: data.backend, options: config.tools }), latency);
  const judge = new RuleJudge();
  const { workflow, limits, promptStyle: prompts } = config.agents;
  const sampling = { temperature: options.temperature, topP: 1, topK: 0, minP: 0 };
  return {
    name: config.model.directory,
    policy,
    stats: () => policy.engineStats(),
    options,
    parts: (wrapped) => ({
      taskAt: (cursor) => data.trainTasks[cursor % data.trainTasks.length] as Episode["task"],
      runEpisode: (request) =>
        runPausableEpisode({
          ...request,
          policy: wrapped,
          chat: policy.chat,
          tools,
          workflow,
          limits,
          sampling,
          prompts,
        }),
      score: (episode) => scoreEpisode(episode, { ...config.rewards, judge, signal: neverAborted }),
    }),
    [Symbol.asyncDispose]: async () => {
      await policy.close();
      await data[Symbol.asyncDispose]();
    },
  };
}

function slowTools(tools: Toolset, latency: LatencyShape): Toolset {
  const numCalls = new Map<string, number>();
  return {
    definitions: (...args) => tools.definitions(...args),
    run: async (call, context) => {
      const key = JSON.stringify(call);
      const count = numCalls.get(key) ?? 0;
      numCalls.set(key, count + 1);
      await sleep(latencySeconds(latency, key, count) * 1000, undefined, { signal: context.signal });
      return await tools.run(call, context);
    },
  };
}

/** Tokens of the parts of an episode. */
interface TeamForm {
  system: number;
  question: number;
  plan: number;
  subtask: number;
  turn: number;
  toolResponse: number;
  report: number;
  answer: number;
  /** Fewest and most. */
  subagents: readonly [number, number];
  turns: readonly [number, number];
}

const form: TeamForm = {
  ...{ system: 1024, question: 128, plan: 256, subtask: 64, turn: 128, toolResponse: 512, report: 128, answer: 512 },
  subagents: [4, 10],
  turns: [2, 6],
};
/** For `--smoke`. */
const smokeForm: TeamForm = {
  ...{ system: 64, question: 8, plan: 8, subtask: 8, turn: 8, toolResponse: 16, report: 8, answer: 8 },
  subagents: [1, 3],
  turns: [1, 2],
};

/** A lead that delegates once to 4 to 10 subagents of 2 to 6 turns each, over one system prompt. */
export async function syntheticTeams(
  { model, shape, threads, smoke }: BenchmarkContext,
  { questions, groupSize, latency }: TeamSizes,
): Promise<RolloutTeams> {
  const sizes = smoke ? smokeForm : form;
  const maxTokens = smoke ? 2048 : 8192;
  const policy = await model.open({ threads, kvCacheTokens: smoke ? 16_384 : 262_144, maxTrainTokens: maxTokens });
  const options = trainOptionsSchema.parse({ questionsPerStep: questions, groupSize, maxTokens });
  const systemIds = new RandomTokens(shape.vocabSize).take(sizes.system);
  return {
    name: shape.name,
    policy,
    stats: () => policy.stats(),
    options,
    parts: (wrapped) => ({
      taskAt: (cursor) => ({ kind: "qa", instanceId: `q${cursor}`, question: "", language: "en", answers: [] }),
      runEpisode: (request) => syntheticEpisode({ policy: wrapped, systemIds, sizes, latency }, request),
      score: async (episode) => differentTokens(episode),
    }),
    [Symbol.asyncDispose]: () => policy.close(),
  };
}

interface SyntheticTeam {
  policy: Policy;
  systemIds: Int32Array;
  sizes: TeamForm;
  latency: LatencyShape;
}

async function syntheticEpisode(
  { policy, systemIds, sizes, latency }: SyntheticTeam,
  { task, sample, seed }: { task: Episode["task"]; sample: number; seed: bigint },
): Promise<Episode> {
  const start = performance.now();
  const key = Number(seed & 0xffffffffn);
  const tokens = new RandomTokens(policy.vocabSize, key);
  const between = ([low, high]: readonly [number, number]): number =>
    low + ((tokens.take(1)[0] as number) % (high - low + 1));
  let numCalls = 0n;
  const agent = (agentId: string, prompt: Int32Array): SyntheticAgent =>
    new SyntheticAgent(policy, agentId, prompt, () => seed + 1000n * numCalls++);

  const question = new RandomTokens(policy.vocabSize, Number(task.instanceId.slice(1)) + 2).take(sizes.question);
  const lead = agent("lead", Int32Array.of(...systemIds, ...question));
  await lead.turn(sizes.plan);
  const plans = Array.from({ length: between(sizes.subagents) }, () => ({
    subtask: tokens.take(sizes.subtask),
    responses: Array.from({ length: between(sizes.turns) - 1 }, () => tokens.take(sizes.toolResponse)),
  }));
  const subagents = plans.map(({ subtask }, index) =>
    agent(String(index + 1), Int32Array.of(...systemIds, ...subtask)),
  );
  const reports = await Promise.all(
    subagents.map(async (subagent, index) => {
      await subagent.turn(sizes.turn);
      for (const [turn, response] of (plans[index]?.responses ?? []).entries()) {
        await sleep(latencySeconds(latency, key, index, turn) * 1000);
        subagent.give(response);
        await subagent.turn(sizes.turn);
      }
      return (subagent.segments.at(-1) as Segment).tokenIds.slice(0, sizes.report);
    }),
  );
  lead.give(Int32Array.of(...reports.flatMap((report) => [...report])));
  await lead.turn(sizes.answer);
  const trajectories = [lead, ...subagents].map((each) => each.trajectory());
  return { task, sample, seed, workflow: "mas", trajectories, seconds: (performance.now() - start) / 1000 };
}

class SyntheticAgent {
  readonly segments: Segment[];
  readonly #policy: Policy;
  readonly #agentId: string;
  readonly #nextSeed: () => bigint;

  constructor(policy: Policy, agentId: string, prompt: Int32Array, nextSeed: () => bigint) {
    this.#policy = policy;
    this.#agentId = agentId;
    this.#nextSeed = nextSeed;
    this.segments = [{ kind: "given", tokenIds: prompt }];
  }

  give(tokenIds: Int32Array): void {
    this.segments.push({ kind: "given", tokenIds });
  }

  async turn(maxNewTokens: number): Promise<void> {
    const { tokenIds, logprobs, policyVersion } = await this.#policy.generate({
      promptIds: Int32Array.of(...this.segments.flatMap((segment) => [...segment.tokenIds])),
      maxNewTokens,
      seed: BigInt.asUintN(64, this.#nextSeed()),
      sampling: { temperature: 1, topP: 1, topK: 0, minP: 0 },
      stopTokenIds: [],
    });
    this.segments.push({ kind: "sampled", tokenIds, logprobs, policyVersion });
  }

  trajectory(): Trajectory {
    const numTurns = this.segments.filter(({ kind }) => kind === "sampled").length;
    const counts = { numSubagentCalls: 0, numSearches: numTurns - 1, numAccesses: 0, numMalformedCalls: 0 };
    return {
      agentId: this.#agentId,
      role: this.#agentId === "lead" ? "lead" : "subagent",
      prompt: "",
      segments: this.segments,
      stopReason: "answered",
      numTurns,
      ...counts,
      answer: "",
      errors: [],
    };
  }
}

/** As the reward of the GRPO step benchmark: the share of different tokens. */
function differentTokens({ trajectories }: Episode): RewardBreakdown {
  const sampled = trajectories.flatMap(({ segments }) =>
    segments.flatMap(({ kind, tokenIds }) => (kind === "sampled" ? [...tokenIds] : [])),
  );
  const total = new Set(sampled).size / sampled.length;
  return { judged: true, score: total, formatReward: 0, toolReward: 0, lengthPenalty: 0, total, reason: "" };
}
