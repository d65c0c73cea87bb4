// Whole GRPO steps on the native engine and real agents; only the reward is made up, so that there is one to learn.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadPolicy } from "../../packages/core/src/index.ts";
import { readRows } from "../../packages/train/src/index.ts";
import { evenTokens, trainSynthetic } from "./synthetic-run.ts";
import { makeWorkspace, type Workspace } from "./workspace.ts";

let workspace: Workspace;
let runs: string;
beforeAll(async () => {
  workspace = await makeWorkspace();
  runs = await mkdtemp(path.join(tmpdir(), "wideseek-runs-"));
});
afterAll(async () => {
  await workspace[Symbol.asyncDispose]();
  await rm(runs, { recursive: true, force: true });
});

type Row = Record<string, number>;
const metricsOf = (directory: string): Promise<Row[]> => readRows<Row>(path.join(directory, "metrics.jsonl"));

describe("trainLoop on the native engine", () => {
  it("is exactly on-policy: with learning rate 0, fifty steps give KL 0 and ratio 1", async () => {
    const directory = path.join(runs, "frozen");
    await trainSynthetic(workspace, directory, { steps: 50, learningRate: 0, questionsPerStep: 1 });
    const rows = await metricsOf(directory);
    expect(rows).toHaveLength(50);
    const trained = rows.filter((row) => row["group/trained"] === 1);
    expect(trained.length).toBeGreaterThan(40);
    for (const row of trained) {
      expect(row).toMatchObject({
        "policy/kl_k1": 0,
        "policy/kl_k3": 0,
        "policy/max_logprob_diff": 0,
        "policy/ratio_min": 1,
        "policy/ratio_max": 1,
        "policy/ratio_mean": 1,
      });
    }
  });

  it("learns: a reward for even token ids rises", async () => {
    const directory = path.join(runs, "learns");
    await trainSynthetic(workspace, directory, { steps: 20, learningRate: 0.02, groupSize: 8 });
    const rewards = (await metricsOf(directory)).map((row) => row["reward/mean"] as number);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(rewards.slice(-4))).toBeGreaterThan(mean(rewards.slice(0, 4)) + 0.2);
  });

  it("learns from batches that were sampled one step ahead, each by one version of the weights", async () => {
    const directory = path.join(runs, "stale");
    await trainSynthetic(workspace, directory, { steps: 20, learningRate: 0.02, groupSize: 8, staleness: 1 });
    const rows = await metricsOf(directory);
    const rewards = rows.map((row) => row["reward/mean"] as number);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(rewards.slice(-4))).toBeGreaterThan(mean(rewards.slice(0, 4)) + 0.2);
    expect(rows[0]).toMatchObject({ "policy/staleness_mean": 0, "mismatch/max": 0 });
    for (const row of rows.slice(1))
      expect(row).toMatchObject({ "policy/staleness_mean": 1, "policy/stale_tokens": 1 });
    expect(rows[1]?.["mismatch/kl"]).toBeGreaterThan(0);
  });

  it("does not depend on when the trainer and the generator run: a resumed stale run is bit-equal", async () => {
    const timeless = async (directory: string): Promise<Row[]> =>
      (await metricsOf(directory)).map(
        (row) => Object.fromEntries(Object.entries(row).filter(([key]) => !/time|second|engine/.test(key))) as Row,
      );
    const options = { learningRate: 0.01, staleness: 1, checkpointEvery: 2, importanceCap: 2 } as const;
    await trainSynthetic(workspace, path.join(runs, "stale-whole"), { ...options, steps: 5 });
    const stop = new AbortController();
    const resumed = path.join(runs, "stale-resumed");
    await trainSynthetic(workspace, resumed, { ...options, steps: 5 }, undefined, {
      signal: stop.signal,
      onStep: (step) => step === 3 && stop.abort(new Error("stop")),
    });
    expect((await metricsOf(resumed)).length).toBeLessThan(5);
    await trainSynthetic(workspace, resumed, { ...options, steps: 5 });
    expect(await timeless(resumed)).toEqual(await timeless(path.join(runs, "stale-whole")));
  });

  it("carries stragglers over and loses none", async () => {
    const directory = path.join(runs, "cut");
    await trainSynthetic(workspace, directory, { steps: 6, learningRate: 0.01, cutQuantile: 0.5, questionsPerStep: 4 });
    const rows = await metricsOf(directory);
    const sum = (tag: string): number => rows.reduce((total, row) => total + (row[tag] ?? 0), 0);
    expect(rows).toHaveLength(6);
    expect(sum("episode/paused")).toBeGreaterThan(0);
    expect(sum("episode/resumed")).toBeGreaterThan(0);
    expect(Math.max(...rows.map((row) => row["policy/staleness_max"] ?? 0))).toBeGreaterThan(0);
  });

  it("holds the policy near the starting model when klCoefficient says so", async () => {
    const drift: number[] = [];
    for (const klCoefficient of [0.01, 10]) {
      const directory = path.join(runs, `kl-${klCoefficient}`);
      await trainSynthetic(workspace, directory, { steps: 8, learningRate: 0.01, klCoefficient });
      const divergence = (await metricsOf(directory)).map((row) => row["policy/ref_kl_k3"] as number);
      // Before the first update both models are the same, bit for bit.
      expect(divergence[0]).toBe(0);
      drift.push(divergence.at(-1) as number);
    }
    const [free, held] = drift as [number, number];
    expect(free).toBeGreaterThan(0);
    expect(held).toBeLessThan(free / 2);
  });

  it("gives the same weights whatever the size of the micro-batches, but for rounding", async () => {
    const losses = [];
    for (const maxTokens of [2048, 8192]) {
      const directory = path.join(runs, `pack-${maxTokens}`);
      await trainSynthetic(workspace, directory, { steps: 2, maxTokens });
      losses.push((await metricsOf(directory)).map((row) => [row["train/loss"], row["train/grad_norm"]]));
    }
    const [small, large] = losses as [number[][], number[][]];
    small.forEach((row, step) => {
      row.forEach((value, column) => {
        expect(value).toBeCloseTo(large[step]?.[column] as number, 4);
      });
    });
  });

  it("writes a model that opens again with the trained weights", async () => {
    const directory = path.join(runs, "saved");
    const saved = path.join(directory, "weights");
    await trainSynthetic(workspace, directory, { steps: 2 }, async (policy) => policy.saveWeights(saved));
    await using before = await loadPolicy({ modelDir: workspace.model, device: "cpu" });
    const batch = { tokenIds: Int32Array.of(1, 2, 3, 4), cuSeqlens: Int32Array.of(0, 4) };
    const untrained = await before.logprobs(batch);
    expect((await evenTokens.logprobsOf(saved, workspace.model, batch)).logprobs).not.toEqual(untrained.logprobs);
  });
});
