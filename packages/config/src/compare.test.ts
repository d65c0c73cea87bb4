import { describe, expect, it } from "vitest";
import { changedEvaluation, changedSettings, shrunkEvaluation } from "./compare.ts";
import { hashConfig, loadConfig } from "./load.ts";

const changes = async (before: string[], after: string[]): Promise<string[]> =>
  changedSettings(await loadConfig({ overrides: before }), await loadConfig({ overrides: after }));

describe("changedSettings", () => {
  it("names key, old and new value of what results depend on", async () => {
    expect(await changes(["train.groupSize=2"], ["train.groupSize=3"])).toEqual(["train.groupSize: 2 -> 3"]);
    expect(await changes([], ["eval.workflows=[mas, sa]", "model.directory=other"])).toEqual([
      expect.stringMatching(/^model\.directory: ".*" -> "other"$/),
      'eval.workflows: ["mas"] -> ["mas","sa"]',
    ]);
    expect(await changes([], ["run.directory=x", "train.checkpointEvery=5", "train.steps=7"])).toEqual([]);
  });

  it("names the schedule and not the steps that only then matter, unless they differ too", async () => {
    const constant = ["train.schedule=constant", "train.steps=7"];
    expect(await changes(constant, ["train.schedule=linear", "train.steps=7"])).toEqual([
      'train.schedule: "constant" -> "linear"',
    ]);
    expect(await changes(constant, ["train.schedule=linear", "train.steps=8"])).toContain("train.steps: 7 -> 8");
  });

  it("names something whenever the hash differs", async () => {
    const files = ["data={source: files, corpus: c, trainTasks: t}"];
    const sets = [[], ["run.seed=1"], files, ["expert.wide=0.2"], ["agents.limits.contextTokensByRole={lead: 4096}"]];
    const configs = await Promise.all(sets.map((overrides) => loadConfig({ overrides })));
    for (const before of configs) {
      for (const after of configs) {
        const same = hashConfig(before) === hashConfig(after);
        expect(changedSettings(before, after).length === 0).toBe(same);
      }
    }
  });
});

describe("changedEvaluation", () => {
  const evaluation = async (after: string[]): Promise<string[]> =>
    changedEvaluation(await loadConfig({}), await loadConfig({ overrides: after }));

  it("names what episodes and scores depend on", async () => {
    expect(await evaluation(["eval.temperature=0"])).toEqual(["eval.temperature: 1 -> 0"]);
    expect(await evaluation(["agents.limits.leadTurns=3", "eval.seed=1"])).toHaveLength(2);
    expect(await evaluation(["engine.weightDtype=bfloat16", "rewards.fence=first"])).toHaveLength(2);
  });

  it("lets a killed evaluation go on with more samples, on another machine", async () => {
    const free = [
      "eval.samples=8",
      "eval.concurrency=2",
      "eval.sweepTurns=[1, 2]",
      "engine.threads=3",
      "train.steps=7",
    ];
    expect(await evaluation(free)).toEqual([]);
    const shrunk = async (before: string[], after: string[]): Promise<string[]> =>
      shrunkEvaluation(await loadConfig({ overrides: before }), await loadConfig({ overrides: after }));
    expect(await shrunk(["eval.maxTasks=3"], ["eval.samples=8", "eval.maxTasks=0"])).toEqual([]);
    expect(await shrunk(["eval.samples=8", "eval.maxTasks=0"], ["eval.maxTasks=3", "eval.samples=4"])).toEqual([
      "eval.samples: 8 -> 4",
      "eval.maxTasks: 0 -> 3",
    ]);
  });
});
