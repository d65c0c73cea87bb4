import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readWideSearch } from "./widesearch.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-widesearch-"));
  await mkdir(join(directory, "gold"));
  await writeFile(join(directory, "gold", "ws_zh_001.csv"), "City,People\nBonn,1\n");
});
afterEach(() => rm(directory, { recursive: true }));

const evaluation = {
  required: ["city", "people"],
  unique_columns: ["city"],
  eval_pipeline: { people: { preprocess: ["extract_number"], metric: ["number_near"], criterion: 0.1 } },
};
const record = (part: object): string =>
  JSON.stringify({
    instance_id: "ws_zh_001",
    query: "所有城市",
    evaluation: JSON.stringify(evaluation),
    language: "zh",
    ...part,
  });

async function read(...lines: string[]): ReturnType<typeof readWideSearch> {
  const questions = join(directory, "widesearch.jsonl");
  await writeFile(questions, lines.join("\n"));
  return await readWideSearch({ questions, gold: join(directory, "gold") });
}

describe("readWideSearch", () => {
  it("joins questions and gold tables, and lists the questions without one", async () => {
    const { tasks, withoutGold } = await read(record({}), record({ instance_id: "ws_en_002", language: "en" }));
    expect(withoutGold).toEqual(["ws_en_002"]);
    expect(tasks).toEqual([
      {
        kind: "table",
        instanceId: "ws_zh_001",
        question: "所有城市",
        language: "zh",
        answer: "City,People\nBonn,1\n",
        answerFormat: "csv",
        uniqueColumns: ["city"],
        requiredColumns: ["city", "people"],
        evaluation,
      },
    ]);
  });

  it.each([
    [record({ instance_id: "../../etc/passwd" }), /jsonl:1: instance_id: must be letters/],
    [record({ evaluation: "{" }), /jsonl:1: evaluation: neither an object nor JSON text/],
    [record({ evaluation: { required: ["city"] } }), /jsonl:1: evaluation\.unique_columns: missing/],
    [record({ language: "fr" }), /jsonl:1: language: must be/],
  ])("names file, line and field of %s", async (line, message) => {
    await expect(read(line)).rejects.toMatchObject({ code: "WS_INVALID_ARGUMENT", message });
  });

  it("names a folder that is not there", async () => {
    const questions = join(directory, "widesearch.jsonl");
    await writeFile(questions, record({}));
    const gold = join(directory, "none");
    await expect(readWideSearch({ questions, gold })).rejects.toMatchObject({
      code: "WS_IO",
      message: /none: no such/,
    });
  });
});
