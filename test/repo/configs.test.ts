// Every shipped config loads, and the published recipe is in force where its file says so. Owns no config.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { changedSettings, loadConfig, type RunConfig } from "../../packages/config/src/index.ts";
import { root } from "./imports.ts";

const folder = join(root, "configs");
/** The settings of `tools serve` are no run's. */
const names = readdirSync(folder).filter((name) => name.endsWith(".yaml") && name !== "tools-serve.yaml");
const load = (name: string): Promise<RunConfig> => loadConfig({ file: join(folder, name) });

it.each(names)("%s loads", async (name) => {
  await load(name);
});

const sizes = ["0.6b", "1.7b", "4b", "8b"];

describe("the training configs of Qwen3", () => {
  it.each(sizes)("%s has the published recipe", async (size) => {
    const { train, agents, rewards, tools, model, judge, summary } = await load(`qwen3-${size}.yaml`);
    expect(model.directory).toBe(`models/qwen3-${size}`);
    expect(train).toMatchObject({
      steps: 156,
      questionsPerStep: 128,
      groupSize: 8,
      temperature: 1,
      learningRate: 1e-6,
      schedule: "constant",
      warmupSteps: 0,
      adamBeta1: 0.9,
      adamBeta2: 0.999,
      adamEpsilon: 1e-5,
      weightDecay: 0.01,
      maxGradNorm: 1,
      clipLow: 0.2,
      clipHigh: 0.28,
      dualClip: 10,
      // Configured as 0.001, but never applied.
      klCoefficient: 0,
      maxTokens: 32_000,
      checkpointEvery: 30,
      advantageStd: "sample",
    });
    expect(agents.limits).toMatchObject({
      leadTurns: 10,
      subagentTurns: 20,
      singleTurns: 50,
      maxSubagentsPerCall: 10,
      maxSubagents: 100,
      contextTokens: 32_000,
    });
    expect(rewards).toMatchObject({
      formatReward: 0.1,
      toolReward: 0.05,
      lengthPenalty: 0.1,
      lengthPenaltyStart: 3000,
      lengthPenaltyEnd: 5000,
    });
    expect(tools).toMatchObject({ defaultCount: 3, maxItemsPerCall: 5, hitCharacters: 5000, pageCharacters: 25_000 });
    expect([judge.kind, summary.kind]).toEqual(["api", "judge"]);
  });

  it.each(sizes)("%s differs from its wide and deep twins in the questions only", async (size) => {
    const hybrid = await load(`qwen3-${size}.yaml`);
    for (const [kind, file] of [
      ["wide", "width_20k"],
      ["deep", "depth_20k"],
    ] as const) {
      const changed = changedSettings(hybrid, await load(`qwen3-${size}-${kind}.yaml`));
      expect(changed).toEqual([expect.stringMatching(`^data\\.trainTasks: .*hybrid_20k.* -> .*${file}\\.jsonl"$`)]);
    }
  });
});

describe("the experiments on the embedded default", () => {
  it("differ from it in what they are about only", async () => {
    const base = await load("embedded.yaml");
    const keys = async (name: string): Promise<string[]> =>
      changedSettings(base, await load(name))
        .map((line) => line.split(":")[0] ?? "")
        .filter((key) => !key.startsWith("train."));
    expect(await keys("embedded-wide.yaml")).toEqual(["data.numTrainTables", "data.numTrainFacts"]);
    expect(await keys("embedded-deep.yaml")).toEqual(["data.numTrainTables", "data.numTrainFacts"]);
    expect(await keys("embedded-width.yaml")).toEqual(["eval.sweepSubagentsPerCall"]);
    expect(await keys("embedded-depth.yaml")).toEqual(["eval.workflows", "eval.sweepTurns"]);
  });
});

it("the benchmarks' configs ask for four samples at temperature 1, as published", async () => {
  for (const name of ["widesearch.yaml", "qa.yaml", "widesearch-width.yaml", "widesearch-depth.yaml"]) {
    expect((await load(name)).eval).toMatchObject({ samples: 4, temperature: 1, maxTasks: 0 });
  }
});
