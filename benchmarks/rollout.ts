// 64 multi-agent episodes with slow tools and the GRPO step on them: how busy the engine is while there is something to
// compute, tokens/s, phases.
import type { GenerateRequest, Policy } from "@wideseek/core";
import { type RolloutPosition, rollout, type TrainOptions, trainStep } from "../packages/train/src/index.ts";
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
  /** Whole ones, which were trained on. */
  numGroups: number;
}

/** A step from `position`, and where the next one begins. */
async function measureStep(
  teams: RolloutTeams,
  step: number,
  position: RolloutPosition,
  change: Partial<TrainOptions> = {},
): Promise<{ figures: StepFigures; next: RolloutPosition }> {
  const { policy } = teams;
  const options = { ...teams.options, ...change };
  const waiting = new WaitingClock();
  const watched: Policy = Object.create(policy, {
    generate: { value: (request: GenerateRequest) => waiting.watch(() => policy.generate(request)) },
    // Getters of a class with private fields need the object itself.
    maxContextTokens: { value: policy.maxContextTokens },
    vocabSize: { value: policy.vocabSize },
  });
  const parts = { ...teams.parts(watched), policy, options, seed: 1 };
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
  const figures: StepFigures = {
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
    numGroups: batch.groups.length,
  };
  return { figures, next: batch.next };
}

async function measureSteps(
  teams: RolloutTeams,
  numSteps: number,
  change: Partial<TrainOptions> = {},
): Promise<StepFigures[]> {
  const results: StepFigures[] = [];
  let position: RolloutPosition = { cursor: 0, carried: [] };
  for (let step = 1; step <= numSteps; step++) {
    const { figures, next } = await measureStep(teams, step, position, change);
    results.push(figures);
    position = next;
  }
  return results;
}

export const rolloutBenchmark: Benchmark = async function* (context) {
  const { smoke, device, threads, rounds } = context;
  const latency = smoke ? { medianSeconds: 0.003, p99Seconds: 0.1 } : toolLatency;
  const sizes: TeamSizes = { questions: smoke ? 2 : 8, groupSize: smoke ? 2 : 8, latency };
  if (device.kind === "cpu") {
    await using teams = await shippedTeams(threads, sizes);
    const params = { ...sizes, dtype: "fp32" };
    yield* measurements("cpu.rollout", teams, await measureSteps(teams, rounds), params);
    // The first step has no carried groups yet.
    const cutQuantile = 0.9;
    const [, ...cut] = await measureSteps(teams, rounds + 1, { cutQuantile });
    yield* measurements("cpu.rollout.cut90", teams, cut, { ...params, cutQuantile });
  }
  if (device.kind === "cuda" || smoke) {
    const name = `${figureName(context, "rollout")}${smoke ? ".synthetic" : ""}`;
    await using teams = await syntheticTeams(context, sizes);
    yield* measurements(name, teams, await measureSteps(teams, rounds), { ...sizes, dtype: dtypeOf(device) });
  }
};

function* measurements(
  name: string,
  teams: RolloutTeams,
  results: readonly StepFigures[],
  sizes: Record<string, unknown>,
): Iterable<Measurement> {
  const params = { teams: teams.name, ...sizes, sampledTokens: results.map(({ numTokens }) => numTokens) };
  const figure = (part: string, unit: string, value: (result: StepFigures) => number): Measurement => ({
    name: `${name}.${part}`,
    unit,
    values: results.map(value),
    params,
  });
  yield figure("groups", "1", ({ numGroups }) => numGroups);
  const busyShare = figure("busy_share", "ratio", (result) => result.busyShare);
  yield { ...busyShare, name: busyShare.name.replace("gpu.rollout", "gpu.grpo_step") };
  yield figure("tokens_per_second", "token/s", ({ tokensPerSecond }) => tokensPerSecond);
  yield figure("tokens_per_runnable_second", "token/s", ({ tokensPerRunnableSecond }) => tokensPerRunnableSecond);
  for (const phase of ["rollout", "runnable", "engine", "reward", "train", "optimizer", "step"] as const) {
    yield figure(`${phase}_seconds`, "s", ({ seconds }) => seconds[phase]);
  }
}
