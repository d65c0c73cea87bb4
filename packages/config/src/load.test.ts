import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatConfig, hashConfig, loadConfig } from "./load.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const write = async (text: string): Promise<string> => {
  const file = path.join(directory, "run.yaml");
  await writeFile(file, text);
  return file;
};
const fails = async (text: string, overrides: string[] = []): Promise<string> => {
  const file = await write(text);
  const error: Error = await loadConfig({ file, overrides }).then(
    () => Promise.reject(new Error("was accepted")),
    (reason) => reason,
  );
  expect(error).toMatchObject({ code: "WS_INVALID_ARGUMENT" });
  expect(error.message).not.toContain("\n");
  return error.message.replace(file, "FILE");
};

describe("loadConfig", () => {
  it("has the published settings as defaults", async () => {
    const config = await loadConfig({});
    expect(config.train).toMatchObject({
      questionsPerStep: 128,
      groupSize: 8,
      learningRate: 1e-6,
      clipLow: 0.2,
      clipHigh: 0.28,
      dualClip: 10,
      klCoefficient: 0,
      maxGradNorm: 1,
      adamBeta1: 0.9,
      adamBeta2: 0.999,
    });
    expect(config.agents.limits).toMatchObject({ leadTurns: 10, subagentTurns: 20, contextTokens: 32_000 });
  });

  it("puts overrides over the file over the defaults", async () => {
    const file = await write("train:\n  steps: 3\n  groupSize: 4\n");
    const config = await loadConfig({ file, overrides: ["train.steps=5", "train.steps=6", "eval.workflows=[sa]"] });
    expect(config.train).toMatchObject({ steps: 6, groupSize: 4, questionsPerStep: 128 });
    expect(config.eval.workflows).toEqual(["sa"]);
  });

  it("writes what it reads back", async () => {
    const config = await loadConfig({ overrides: ["train.learningRate=3e-5", "train.dualClip=null"] });
    expect(await loadConfig({ file: await write(formatConfig(config)) })).toEqual(config);
  });

  it("names file, line and key", async () => {
    expect(await fails("train:\n  steps: many\n")).toMatch(/^FILE:2: train\.steps: must be a number, got "many"$/);
    expect(await fails("train:\n  groupSize: 8\n  stesp: 3\n")).toBe(
      "FILE:3: train.stesp: unknown key; did you mean steps?",
    );
    expect(await fails("modell: {}\n")).toBe("FILE:1: modell: unknown key; did you mean model?");
    expect(await fails("\ntrain:\n  zzzzzz: 1\n")).toMatch(
      /FILE:3: train\.zzzzzz: unknown key; known keys are steps, /,
    );
    expect(await fails("train:\n  steps: [1\n")).toMatch(/^FILE:\d: broken YAML: /);
    expect(await fails("train:\n  steps: 1\n  steps: 2\n")).toMatch(/^FILE:3: broken YAML: .*unique/);
    expect(await fails("- 1\n")).toMatch(/^FILE: must be a map/);
    expect(await fails("train: 3\n")).toMatch(/^FILE:1: train: must be an object, got 3$/);
  });

  it("names the override", async () => {
    expect(await fails("", ["train.steps=0"])).toMatch(/^--set train\.steps=0: train\.steps: /);
    expect(await fails("", ["train"])).toMatch(/^--set train: must look like/);
    expect(await fails("", ["train.steps=[1"])).toMatch(/^--set train\.steps=\[1: the value is not YAML/);
    expect(await fails("train: {steps: 1}", ["train.steps.a=1"])).toMatch(/^--set train\.steps\.a=1: steps: must be/);
    expect(await fails("", ["__proto__.steps=1"])).toMatch(/^--set __proto__/);
  });

  it("blames the override for what the file does not have", async () => {
    expect(await fails("train: {steps: 1}\n", ["trian.steps=1"])).toBe(
      "--set trian.steps=1: trian: unknown key; did you mean train?",
    );
    await expect(loadConfig({ overrides: ["trian.steps=1"] })).rejects.toThrow(/^--set trian\.steps=1: trian: unknown/);
  });

  it("leaves the file's data behind when an override switches its source", async () => {
    const file = await write("data:\n  source: embedded\n  numTrainRegions: 9\n");
    const overrides = ["data.trainTasks=t", "data.corpus=c", "data.source=files"];
    const { data } = await loadConfig({ file, overrides });
    expect(data).toMatchObject({ source: "files", corpus: "c", searchServer: null, trainTasks: "t", qa: null });
    expect(data).not.toHaveProperty("numTrainRegions");
    const same = await loadConfig({ file, overrides: ["data.source=embedded"] });
    expect(same.data).toMatchObject({ numTrainRegions: 9 });
    expect(await fails("data: {source: embedded}\n", ["data.source=files"])).toMatch(
      /^--set data\.source=files: data\.trainTasks: /,
    );
  });

  it("says what a key of another source belongs to", async () => {
    const files = "data:\n  source: files\n  corpus: c\n  trainTasks: t\n";
    expect(await fails(`${files}  numTrainRegions: 3\n`)).toBe(
      "FILE:5: data.numTrainRegions: belongs to source embedded, but source is files",
    );
    expect(await fails(`${files}  heldOutTask: h\n`)).toBe(
      "FILE:5: data.heldOutTask: unknown key; did you mean heldOutTasks?",
    );
    expect(await fails("", ["engine.thread=2"])).toMatch(/did you mean threads\?/);
    expect(await fails("", ["model.create={hiddenSiz: 2}"])).toMatch(/model\.create\.hiddenSiz: .* hiddenSize\?/);
  });

  it("refuses settings that cannot work together", async () => {
    expect(await fails("train:\n  maxTokens: 100\n")).toMatch(/^FILE:2: train\.maxTokens: 100 is less than/);
    expect(await fails("train:\n  questionsPerStep: 100000\n  groupSize: 100\n")).toMatch(
      /^FILE:2: train\.questionsPerStep: makes 10000000 episodes of a step, the most are 1000000/,
    );
    expect(await fails("engine:\n  kvCacheTokens: 10\n")).toMatch(
      /^FILE:2: engine\.kvCacheTokens: 10 is less than the longest context of an agent, 32000; /,
    );
    expect(await fails("agents:\n  limits:\n    contextTokens: 100\n    answerReserveTokens: 100\n")).toMatch(
      /^FILE:3: agents\.limits\.contextTokens: 100 is not more than answerReserveTokens, 100; /,
    );
    expect(await fails("data:\n  source: embedded\n  minRegions: 9\n")).toMatch(/FILE:3: data\.minRegions: /);
    expect(await fails("data:\n  source: web\n")).toMatch(/^FILE:2: data\.source: /);
    expect(await fails("data:\n  source: files\n  corpus: a\n")).toMatch(/^FILE:1: data\.trainTasks: /);
    const files = "data:\n  source: files\n  trainTasks: t\n";
    expect(await fails(files)).toMatch(/^FILE:1: data\.corpus: give one of corpus, searchServer, web, mcp/);
    expect(await fails(`${files}  corpus: a\n  searchServer: http://a.example\n`)).toMatch(/^FILE:4: data\.corpus: /);
    expect(await fails(`${files}  searchServer: 127.0.0.1:8000\n`)).toMatch(/^FILE:4: data\.searchServer: must be/);
    const benchmark = "data:\n  source: files\n  corpus: c\n";
    expect(await fails(`${benchmark}  qa:\n    sets: {}\n`)).toMatch(
      /^FILE:5: data\.qa\.sets: must name at least one of nq,/,
    );
    expect(await fails(`${benchmark}  qa:\n    sets: {squad: f}\n`)).toMatch(/^FILE:5: data\.qa\.sets/);
    expect(await fails(`${benchmark}  widesearch:\n    questions: q\n`)).toMatch(
      /^FILE:4: data\.widesearch\.gold: missing/,
    );
  });

  it("names a file that is missing", async () => {
    await expect(loadConfig({ file: path.join(directory, "no.yaml") })).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringContaining("no.yaml"),
    });
  });
});

describe("hashConfig", () => {
  it("changes with what results depend on only", async () => {
    const hash = async (...overrides: string[]) => hashConfig(await loadConfig({ overrides }));
    const base = await hash();
    expect(await hash("run.directory=x", "train.checkpointEvery=5", "train.steps=7")).toBe(base);
    expect(await hash("train.learningRate=1e-5")).not.toBe(base);
    expect(await hash("run.seed=1")).not.toBe(base);
    expect(await hash("train.schedule=linear", "train.steps=7")).not.toBe(await hash("train.schedule=linear"));
  });
});
