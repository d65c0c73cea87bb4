// The models of a config, opened and joined: who judges, who summarises, from which cache, and what is closed.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadConfig } from "@wideseek/config";
import { ScriptedServer } from "@wideseek/llm/testing";
import { searchTools } from "@wideseek/tools";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RunModels } from "./chat-models.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "wideseek-models-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const backend = {
  search: async () => [],
  access: async () => "a page",
  [Symbol.asyncDispose]: async () => {},
};
const access = { name: "access", arguments: { url: "u", info_to_extract: "what?" } };
const context = { role: "single", language: "en" } as const;

test("rules and whole pages need no model", async () => {
  await using models = await RunModels.open(await loadConfig({}));
  expect(models.judge.name).toBe("rule");
  expect(models.summarizer).toBeUndefined();
  expect(models.metrics()).toEqual({});
  expect(models.describe()).toBe("");
});

test("one server judges and summarises; a second run is answered from the cache", async () => {
  await using server = await ScriptedServer.start(({ messages }) =>
    /<data>/.test(messages[1]?.content ?? "") ? '{"correct": true}' : "a summary",
  );
  const overrides = [
    "judge.kind=api",
    `judge.baseUrl=${server.baseUrl}`,
    "judge.model=m",
    `judge.cacheFile=${folder}/replies.sqlite`,
    "summary.kind=judge",
    "summary.maxSummaryTokens=50",
  ];
  const config = await loadConfig({ overrides });
  for (const round of [1, 2]) {
    await using models = await RunModels.open(config);
    expect(await models.judge.gradeAnswer("q", ["a"], "b")).toBe(1);
    const tools = searchTools({ backend, summarizer: models.summarizer });
    expect((await tools.run(access, context)).text).toMatch(/# Info to extract:\nwhat\?\n# Result:\na summary$/);
    expect(models.metrics()).toMatchObject({
      "judge/calls": 2,
      "judge/cache_hits": round === 1 ? 0 : 2,
      "judge/failed_calls": 0,
      "summary/summaries": 1,
      "summary/failures": 0,
    });
    expect(models.describe()).toMatch(/^judge m: 2 calls.*\npages: 1 summarised, 0 shown as they are/);
  }
  expect(server.numRequests).toBe(2);
  expect(server.requests.map(({ body }) => body.max_tokens)).toEqual([undefined, 50]);
});

test("summaries by another model than the judge", async () => {
  await using server = await ScriptedServer.start(["from the other"]);
  const overrides = ["summary.kind=api", `summary.baseUrl=${server.baseUrl}`, "summary.model=s"];
  await using models = await RunModels.open(await loadConfig({ overrides }));
  expect(models.judge.name).toBe("rule");
  const tools = searchTools({ backend, summarizer: models.summarizer });
  expect((await tools.run(access, context)).text).toMatch(/from the other$/);
});

test("a mistake in the second model closes the first one", async () => {
  const overrides = [
    "judge.kind=api",
    "judge.baseUrl=http://127.0.0.1:1/v1",
    "judge.model=m",
    "summary.kind=local",
    `summary.directory=${folder}/none`,
  ];
  await expect(RunModels.open(await loadConfig({ overrides }))).rejects.toMatchObject({ code: "WS_IO" });
});
