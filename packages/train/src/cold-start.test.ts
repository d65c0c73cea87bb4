import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Episode, Trajectory } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { coldStart } from "./cold-start.ts";
import { type ColdStartOptions, coldStartOptionsSchema } from "./options.ts";
import { Run } from "./run.ts";
import { readRows } from "./run-files.ts";
import { episode, FakeTrainer, trajectory } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const options = coldStartOptionsSchema.parse({
  steps: 5,
  tokensPerStep: 30,
  maxTokens: 20,
  warmupSteps: 0,
  checkpointEvery: 2,
  heldOutEvery: 2,
  heldOutTraces: 2,
});

/** Trace `index` has agents of `index`-dependent lengths. */
const trace = async (index: number): Promise<Episode> =>
  episode([trajectory([2, 1 + (index % 4)]), trajectory([3, 2], "subagent"), trajectory([4], "subagent")]);

/** As long as its number, so that a batch tells which drills it holds. */
const drill = (index: number): Trajectory => trajectory([1, 1 + (index % 1000)]);

async function run(
  folder: string,
  overrides: Partial<ColdStartOptions> = {},
  signal?: AbortSignal,
): Promise<{ policy: FakeTrainer; indices: number[]; steps: number }> {
  const policy = new FakeTrainer();
  const indices: number[] = [];
  await using opened = await Run.open({ directory: folder, seed: 1 }, policy);
  const steps = await coldStart({
    policy,
    run: opened,
    options: { ...options, ...overrides },
    signal,
    trace: async (index, split) => {
      if (split === "train") indices.push(index);
      return await trace(index);
    },
    drill,
  });
  return { policy, indices, steps };
}

describe("coldStart", () => {
  it("weighs the sampled tokens of a step to a sum of 1, by token or by trajectory", async () => {
    for (const weighting of ["token", "trajectory"] as const) {
      const { policy } = await run(path.join(directory, weighting), { weighting, steps: 1 });
      const weights = policy.batches.flatMap((batch) => [...batch.lossWeights]).filter((weight) => weight !== 0);
      expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 5);
      expect(new Set(weights).size === 1).toBe(weighting === "token");
    }
  });

  it("draws every trace once and in order, as much as a step asks for", async () => {
    const { policy } = await run(directory);
    const rows = await readRows<Record<string, number>>(path.join(directory, "metrics.jsonl"));
    expect(rows.map((row) => row.step)).toEqual([1, 2, 3, 4, 5]);
    for (const row of rows) expect(row["throughput/packed_tokens"]).toBeGreaterThanOrEqual(options.tokensPerStep);
    for (const batch of policy.batches) expect(batch.tokenIds.length).toBeLessThanOrEqual(options.maxTokens);
    const evaluations = await readRows<Record<string, number>>(path.join(directory, "evaluations.jsonl"));
    expect(evaluations.map((row) => row.step)).toEqual([0, 2, 4, 5]);
  });

  it("begins with steps of drills, numbered from 0, and then draws the traces from the first on", async () => {
    const drills = { drillSteps: 2, drillTokensPerStep: 6, steps: 3 };
    const { policy, indices } = await run(path.join(directory, "drills"), drills);
    // Drills 0, 1 and 2 of a step are 2, 3 and 4 tokens long: the third fills it.
    expect(policy.batches.slice(0, 2).map((batch) => [...batch.cuSeqlens])).toEqual([
      [0, 2, 5, 9],
      [0, 2, 5, 9],
    ]);
    const withoutDrills = await run(path.join(directory, "traces"), { steps: 1 });
    expect(policy.batches.slice(2)).toEqual(withoutDrills.policy.batches);
    expect(indices[0]).toBe(0);
  });

  it("goes on after a stop with the trace it would have drawn", async () => {
    const whole = await run(path.join(directory, "whole"));
    const stop = new AbortController();
    const folder = path.join(directory, "stopped");
    const policy = new FakeTrainer();
    {
      await using opened = await Run.open({ directory: folder, seed: 1 }, policy);
      const steps = await coldStart({
        policy,
        run: opened,
        options,
        signal: stop.signal,
        drill,
        trace: async (index) => {
          if (index > 14) stop.abort(new Error("stop"));
          return await trace(index);
        },
      });
      expect(steps).toBeLessThan(options.steps);
      expect(steps).toBeGreaterThan(0);
    }
    const resumed = await run(folder);
    expect(resumed.policy.weight).toBe(whole.policy.weight);
    expect(resumed.steps).toBe(options.steps);
  });
});
