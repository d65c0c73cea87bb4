// 64 multi-agent episodes with slow tools and the GRPO step on them: how busy the engine is while there is something to
// compute, tokens/s, phases.
import type { GenerateRequest, Policy } from "@wideseek/core";
import { rollout, trainStep } from "../packages/train/src/index.ts";
import { type LatencyShape, WaitingClock } from "./busy.ts";
import type { Benchmark } from "./context.ts";
import { dtypeOf, figureName } from "./device.ts";
import type { Measurement } from "./record.ts";
import { type RolloutTeams, shippedTeams, syntheticTeams, type TeamSizes } from "./rollout-teams.ts";

const toolLatency: LatencyShape = { medianSeconds: 0.3, p99Seconds: 10 };

interface StepFigures {
  busyShare: number;
  tokensPerSecond: number;
  /** While there was something to compute. */
  tokensPerRunnableSecond: number;
  seconds: Record<"rollout" | "runnable" | "engine" | "reward" | "train" | "optimizer" | "step", number>;
  numTokens: number;
}

async function measureStep(teams: RolloutTeams, step: number): Promise<StepFigures> {
  const { policy, options } = teams;
  const waiting = new WaitingClock();
  const watched: Policy = Object.create(policy, {
    generate: { value: (request: GenerateRequest) => waiting.watch(() => policy.generate(request)) },
    // Getters of a class with private fields need the object itself.
    maxContextTokens: { value: policy.maxContextTokens },
    vocabSize: { value: policy.vocabSize },
  });
  const parts = { ...teams.parts(watched), policy, options, seed: 1 };
  const position = { cursor: (step - 1) * options.questionsPerStep, carried: [] };
  const { signal } = new AbortController();
  const before = await teams.stats();
  const start = performance.now();
  const waitedBefore = waiting.seconds;
  const batch = await rollout(step, position, parts, signal);
  const wall = (performance.now() - start) / 1000;
  const waited = waiting.seconds - waitedBefore;
  const after = await teams.stats();
  const { metrics } = await trainStep(step, { position, ready: batch }, parts, signal);
  const numTokens = after.numGeneratedTokens - before.numGeneratedTokens;
  const engine = after.generatingSeconds - before.generatingSeconds;
  const { rolloutSeconds, rewardSeconds } = batch.facts;
  return {
    busyShare: engine / (wall - waited),
    tokensPerSecond: numTokens / rolloutSeconds,
    tokensPerRunnableSecond: numTokens / (wall - waited),
    seconds: {
      rollout: rolloutSeconds,
      runnable: wall - waited,
      engine,
      reward: rewardSeconds,
      train: metrics["time/train"] ?? 0,
      optimizer: metrics["time/optimizer"] ?? 0,
      step: wall + (metrics["time/step"] ?? 0),
    },
    numTokens,
  };
}

export const rolloutBenchmark: Benchmark = async function* (context) {
  const { smoke, device, threads, rounds } = context;
  const latency = smoke ? { medianSeconds: 0.003, p99Seconds: 0.1 } : toolLatency;
  const sizes: TeamSizes = { questions: smoke ? 2 : 8, groupSize: smoke ? 2 : 8, latency };
  if (device.kind === "cpu") {
    yield* measureTeams(await shippedTeams(threads, sizes), "cpu.rollout", rounds, { ...sizes, dtype: "fp32" });
  }
  if (device.kind === "cuda" || smoke) {
    const name = `${figureName(context, "rollout")}${smoke ? ".synthetic" : ""}`;
    yield* measureTeams(await syntheticTeams(context, sizes), name, rounds, { ...sizes, dtype: dtypeOf(device) });
  }
};

async function* measureTeams(
  opened: RolloutTeams,
  name: string,
  rounds: number,
  sizes: Record<string, unknown>,
): AsyncIterable<Measurement> {
  await using teams = opened;
  const results: StepFigures[] = [];
  for (let round = 0; round < rounds; round++) results.push(await measureStep(teams, round + 1));
  const params = { teams: teams.name, ...sizes, sampledTokens: results.map(({ numTokens }) => numTokens) };
  const figure = (part: string, unit: string, value: (result: StepFigures) => number): Measurement => ({
    name: `${name}.${part}`,
    unit,
    values: results.map(value),
    params,
  });
  yield figure("busy_share", "ratio", ({ busyShare }) => busyShare);
  yield figure("tokens_per_second", "token/s", ({ tokensPerSecond }) => tokensPerSecond);
  yield figure("tokens_per_runnable_second", "token/s", ({ tokensPerRunnableSecond }) => tokensPerRunnableSecond);
  for (const phase of ["rollout", "runnable", "engine", "reward", "train", "optimizer", "step"] as const) {
    yield figure(`${phase}_seconds`, "s", ({ seconds }) => seconds[phase]);
  }
}
