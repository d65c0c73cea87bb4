import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Episode, PausedEpisode } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type TrainLoopOptions, trainLoop } from "./loop.ts";
import { trainOptionsSchema } from "./options.ts";
import type { EpisodeRequest } from "./rollout.ts";
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

const options = trainOptionsSchema.parse({
  steps: 6,
  questionsPerStep: 2,
  groupSize: 3,
  learningRate: 0.1,
  maxTokens: 64,
  checkpointEvery: 2,
  evalEvery: 3,
});

/** Everything that a run produces but the times. */
const results = async (folder: string) => {
  const [metrics, evaluations, traces] = await Promise.all(
    ["metrics.jsonl", "evaluations.jsonl", "episodes.jsonl"].map((name) =>
      readRows<Record<string, unknown>>(path.join(folder, name)),
    ),
  );
  const timeless = (rows: Record<string, unknown>[] = []) =>
    rows.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => !/time|per_second/.test(key))));
  return { metrics: timeless(metrics), evaluations: timeless(evaluations), traces };
};

async function train(
  folder: string,
  { policy = new FakeTrainer(), ...overrides }: Partial<TrainLoopOptions> & { policy?: FakeTrainer } = {},
): Promise<{ steps: number; policy: FakeTrainer }> {
  const run = await Run.open(
    {
      directory: folder,
      seed: 5,
      configText: "",
      configHash: "h",
      traces: { tokenIds: true },
    },
    policy,
  );
  await using _ = run;
  const steps = await trainLoop({
    policy,
    run,
    options,
    seed: 5,
    taskAt: (cursor) => ({ ...episode([]).task, instanceId: `q${cursor}` }),
    runEpisode: async ({ task, sample, seed }: EpisodeRequest) => ({
      ...episode([trajectory([2, 1 + Number(seed % 5n)], "lead", policy.version)], sample, seed),
      task,
    }),
    score: async ({ seed }) => {
      const total = Number(seed % 3n);
      const terms = { score: total, formatReward: 0, toolReward: 0, lengthPenalty: 0 };
      return { judged: seed % 7n !== 0n, ...terms, total, reason: "" };
    },
    sleep: async () => {},
    evaluate: async () => ({ "held_out/weight": policy.weight }),
    ...overrides,
  });
  return { steps, policy };
}

describe("trainLoop", () => {
  it("judges again what could not be judged, leaves the rest out and counts both", async () => {
    let pauses = 0;
    await train(directory, {
      options: { ...options, steps: 1 },
      score: async ({ sample }) => ({
        judged: sample > 0 || pauses >= 2,
        ...{ score: 1, formatReward: 0, toolReward: 0, lengthPenalty: 0, total: sample, reason: "" },
      }),
      sleep: async () => {
        pauses += 1;
      },
    });
    const [row] = await readRows<Record<string, unknown>>(path.join(directory, "metrics.jsonl"));
    expect(row).toMatchObject({ "reward/unjudged": 0, "reward/judged_again": 4, "reward/judge_pause_seconds": 6 });
  });

  it("does every step once, evaluates when due and keeps a row a step", async () => {
    const { steps } = await train(directory);
    expect(steps).toBe(6);
    const { metrics, evaluations, traces } = await results(directory);
    expect(metrics.map((row) => row.step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(evaluations.map((row) => row.step)).toEqual([0, 3, 6]);
    expect(traces).toHaveLength(6 * 2 * 3);
  });

  it("continues bit-equal after a crash at any step, with every row once", async () => {
    const whole = path.join(directory, "whole");
    const { policy: expected } = await train(whole);
    for (const crashAt of [1, 2, 3, 4, 5]) {
      const folder = path.join(directory, `crash-${crashAt}`);
      let calls = 0;
      const crash = new Error("killed");
      const score = async (): Promise<never> => Promise.reject(crash);
      const crashing = train(folder, {
        taskAt: (cursor) => {
          calls = cursor;
          return { ...episode([]).task, instanceId: `q${cursor}` };
        },
        ...(await crashOnStep(crashAt, () => calls, score)),
      });
      await expect(crashing).rejects.toBe(crash);
      const { policy } = await train(folder);
      expect(policy.weight).toBe(expected.weight);
      expect(policy.version).toBe(expected.version);
      expect(await results(folder)).toEqual(await results(whole));
    }
  });

  it.each([{ staleness: 1 as const }, { cutQuantile: 0.5 }, { staleness: 1 as const, cutQuantile: 0.5 }])(
    "loses nothing that was sampled when it is stopped at any step: %j",
    async (change) => {
      const changed = { ...options, ...change, questionsPerStep: 3, checkpointEvery: 100 };
      // Pauses are decided by seeds here, so that two runs can be compared.
      const runEpisode = async (request: EpisodeRequest): Promise<Episode | PausedEpisode> => {
        const { task, sample, seed, pause, resume } = request;
        const version = resume?.agents[0]?.trajectory.segments[1];
        const policyVersion = version?.kind === "sampled" ? version.policyVersion : BigInt(policy.version);
        const own = trajectory([2, 1 + Number(seed % 5n)], "lead", policyVersion);
        const whole = { ...episode([own], sample, seed), task };
        if (resume || !pause || !task.instanceId.endsWith("1")) return whole;
        if (!pause.aborted) await new Promise((resolve) => pause.addEventListener("abort", resolve));
        const { trajectories: _, ...facts } = whole;
        const state = { trajectory: own, ended: false, findings: "", lastTurn: false, cutOff: false };
        return { ...facts, paused: true, agents: [state] };
      };
      let policy = new FakeTrainer();
      const go = async (folder: string, stopAt = 0): Promise<FakeTrainer> => {
        policy = new FakeTrainer();
        const stop = new AbortController();
        const engineMetrics = async (): Promise<Record<string, number>> => {
          if (policy.batches.length > 0 && Number(policy.version) >= stopAt && stopAt > 0)
            stop.abort(new Error("stop"));
          return {};
        };
        await train(folder, { policy, options: changed, runEpisode, engineMetrics, signal: stop.signal });
        return policy;
      };
      const whole = path.join(directory, "whole");
      const expected = await go(whole);
      const { metrics } = await results(whole);
      if (change.cutQuantile) expect(metrics.some((row) => Number(row["episode/resumed"]) > 0)).toBe(true);
      if (change.staleness) expect(metrics.at(-1)?.["policy/staleness_max"]).toBeGreaterThan(0);
      for (const stopAt of [1, 2, 4]) {
        const folder = path.join(directory, `stop-${stopAt}`);
        await go(folder, stopAt);
        expect((await results(folder)).metrics.length).toBeLessThan(6);
        const { weight } = await go(folder);
        expect(weight).toBe(expected.weight);
        expect(await results(folder)).toEqual(await results(whole));
      }
    },
  );

  it("samples the next batch while this one is trained on, with the weights before the update", async () => {
    const events: string[] = [];
    const policy = new FakeTrainer();
    const forwardBackward = policy.forwardBackward.bind(policy);
    policy.forwardBackward = async (batch) => {
      // Would wait for ever if the next rollout began only after the training pass.
      const numBefore = 6 * (Number(policy.version) + 1);
      while (policy.version < 2n && events.length <= numBefore) await new Promise((resolve) => setImmediate(resolve));
      return await forwardBackward(batch);
    };
    await train(directory, {
      policy,
      options: { ...options, staleness: 1, steps: 3 },
      score: async ({ sample }) => ({
        ...{ judged: true, score: 1, formatReward: 0, toolReward: 0, lengthPenalty: 0, reason: "" },
        total: sample,
      }),
      runEpisode: async ({ task, sample, seed }) => {
        events.push(`v${policy.version}`);
        return { ...episode([trajectory([2, 3], "lead", policy.version)], sample, seed), task };
      },
    });
    // Two batches by the first weights, one by the second; none is sampled for a step that will not be.
    expect(events).toEqual([...Array(12).fill("v0"), ...Array(6).fill("v1")]);
    expect(policy.version).toBe(3n);
  });

  it("drops rows after the checkpoint and a torn last line", async () => {
    await train(directory, { options: { ...options, steps: 2 } });
    const file = path.join(directory, "metrics.jsonl");
    await writeFile(file, `${await readFile(file, "utf8")}{"step":3}\n{"ste`);
    await train(directory);
    expect((await results(directory)).metrics.map((row) => row.step)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("stops with a checkpoint of the last whole step", async () => {
    const whole = path.join(directory, "whole");
    await train(whole);
    const stop = new AbortController();
    const folder = path.join(directory, "stopped");
    const { steps } = await train(folder, {
      signal: stop.signal,
      taskAt: (cursor) => {
        if (cursor === 4) stop.abort(new Error("SIGINT"));
        return { ...episode([]).task, instanceId: `q${cursor}` };
      },
    });
    expect(steps).toBe(2);
    await train(folder);
    expect(await results(folder)).toEqual(await results(whole));
  });

  it("skips the update when no group has anything to learn", async () => {
    const terms = { score: 1, formatReward: 0, toolReward: 0, lengthPenalty: 0 };
    const { policy } = await train(directory, {
      score: async () => ({ judged: true, ...terms, total: 1, reason: "" }),
    });
    expect(policy.version).toBe(0n);
    const { metrics } = await results(directory);
    expect(metrics[0]).toMatchObject({ "group/zero_variance": 2, "group/trained": 0, "train/skipped": 1 });
  });
});

/** `score` of step `crashAt` is replaced; the ones before are as in `train`. */
async function crashOnStep(
  crashAt: number,
  lastCursor: () => number,
  crash: () => Promise<never>,
): Promise<Pick<TrainLoopOptions, "score">> {
  return {
    score: async ({ seed }) => {
      if (lastCursor() >= (crashAt - 1) * options.questionsPerStep) return await crash();
      const total = Number(seed % 3n);
      const terms = { score: total, formatReward: 0, toolReward: 0, lengthPenalty: 0 };
      return { judged: seed % 7n !== 0n, ...terms, total, reason: "" };
    },
  };
}
