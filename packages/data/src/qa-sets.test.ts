import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readQaSet } from "./qa-sets.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-qa-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function file(text: string, name = "set.jsonl"): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

describe("readQaSet", () => {
  it.each([
    ['{"id":"test_1","question":"who?","golden_answers":["Ada","Lady L"]}', "nq/test_1", ["Ada", "Lady L"]],
    ['{"question":"who?","answer":["Ada"]}', "nq/0", ["Ada"]],
    ['{"idx":7,"question":"who?","answer":"Ada","gen_text_store":""}', "nq/7", ["Ada"]],
    ['{"query":"who?","answer":"Ada","pid":3,"image":null}', "nq/3", ["Ada"]],
  ])("reads %s", async (line, instanceId, answers) => {
    const tasks = await readQaSet({ dataset: "nq", file: await file(`${line}\n`) });
    expect(tasks).toEqual([{ kind: "qa", instanceId, dataset: "nq", question: "who?", language: "en", answers }]);
  });

  it("reads a list and takes the instruction off that some copies append", async () => {
    const instruction = "When ready, output the final answer enclosed in <answer> and </answer> tags. Do not go on.";
    const text = JSON.stringify([{ idx: 0, question: `who?${instruction}`, answer: ["Ada"] }]);
    const [task] = await readQaSet({ dataset: "bamboogle", file: await file(text, "data.json") });
    expect(task).toMatchObject({ instanceId: "bamboogle/0", question: "who?" });
  });

  it("takes the first questions under a limit", async () => {
    const lines = Array.from({ length: 5 }, (_, id) => JSON.stringify({ id, question: "q", answer: "a" })).join("\n");
    expect(await readQaSet({ dataset: "nq", file: await file(lines), limit: 2 })).toHaveLength(2);
  });

  it.each([
    ["", /no questions/],
    ['{"question":"q"}', /set\.jsonl:1: answer: missing/],
    ['{"answer":"q"}', /set\.jsonl:1: question: missing/],
    ['{"question":"q","answer":[]}', /set\.jsonl:1: answer/],
    [
      '{"id":1,"question":"q","answer":"a"}\n{"id":1,"question":"r","answer":"a"}',
      /set\.jsonl:2: id nq\/1 is there twice/,
    ],
    ["{", /set\.jsonl:1: not JSON/],
  ])("names what is wrong with %j", async (text, message) => {
    const path = await file(text);
    await expect(readQaSet({ dataset: "nq", file: path })).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message,
    });
  });

  it("names a file that is not there", async () => {
    await expect(readQaSet({ dataset: "nq", file: join(directory, "none.jsonl") })).rejects.toMatchObject({
      code: "WS_IO",
    });
  });
});
