import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Task } from "@wideseek/spec";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TaskOrder } from "./order.ts";
import { formatTask, parseTask, readTasks } from "./tasks.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-tasks-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function read(text: string): Promise<Task[]> {
  const path = join(directory, "tasks.jsonl");
  await writeFile(path, text);
  const tasks: Task[] = [];
  for await (const task of readTasks(path)) tasks.push(task);
  return tasks;
}

describe("readTasks", () => {
  it("reads table and QA records of the published format", async () => {
    const tasks = await read(
      [
        '{"question":"q","answer":"| a |\\n|---|\\n| 1 |","unique_columns":["a"],"is_markdown":true,"instance_id":"x"}',
        "",
        '{"question":"who","answer":["Ada","Lovelace"],"unique_columns":null,"is_markdown":false}',
        '{"query":"w","answer":"| a |","unique_columns":["a"],"instance_id":"ws_zh_001","evaluation":"{\\"required\\":[\\"a\\"]}"}',
      ].join("\n"),
    );
    expect(tasks[0]).toMatchObject({ kind: "table", instanceId: "x", language: "en" });
    expect(tasks[1]).toMatchObject({ kind: "qa", instanceId: "2", answers: ["Ada", "Lovelace"] });
    expect(tasks[2]).toMatchObject({ kind: "table", language: "zh", requiredColumns: ["a"], question: "w" });
  });

  it("keeps a benchmark's whole evaluation, and takes unique columns from it", async () => {
    const evaluation = {
      required: ["a"],
      unique_columns: ["a"],
      eval_pipeline: { a: { preprocess: [], metric: ["exact_match"] } },
    };
    const [task] = await read(JSON.stringify({ query: "w", answer: "| a |", instance_id: "ws_en_1", evaluation }));
    expect(task).toMatchObject({ kind: "table", uniqueColumns: ["a"], requiredColumns: ["a"], evaluation });
    expect(parseTask(formatTask(task as Task), "again", 0)).toEqual(task);
    const broken = JSON.stringify({
      query: "w",
      answer: "| a |",
      evaluation: { ...evaluation, eval_pipeline: { a: {} } },
    });
    await expect(read(broken)).rejects.toThrow(/evaluation: eval_pipeline\.a\.preprocess: missing/);
  });

  it.each([
    ["{", "not JSON"],
    ['{"answer":"x"}', "question"],
    ['{"question":"q"}', "answer"],
    ['{"question":"q","answer":"a","is_markdown":true}', "unique_columns"],
    ['{"question":"q","answer":["a"],"is_markdown":true,"unique_columns":["a"]}', "answer"],
    ['{"question":"q","answer":"a","evaluation":"{"}', "evaluation"],
    [
      '{"question":"q","answer":"a","uniqueColumns":["a"]}',
      "uniqueColumns: unknown field; did you mean unique_columns",
    ],
    ['{"question":"q","answer":"a","isMarkdown":true}', "did you mean is_markdown"],
    ['{"question":"q","answers":["a"]}', "did you mean answer"],
    ['{"question":"q","answer":"a","instanceId":"x"}', "did you mean instance_id"],
    ['{"question":"q","answer":"| a | b |\\n|---|---|\\n| 1 | 2 |"}', "unique_columns: missing, but .* a table"],
    ['{"question":"q","answer":"a","evaluation":{"required":["a"]}}', "unique_columns: missing, but .* a table"],
    ['{"question":"q","answer":"a","unique_columns":["a"],"is_markdown":false}', "is_markdown: false, but"],
  ])("names file and line of the broken record %s", async (line, hint) => {
    const good = '{"question":"q","answer":"a"}';
    await expect(read(`${good}\n${line}\n`)).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringMatching(new RegExp(`tasks\\.jsonl:2: .*${hint}`)),
    });
  });

  it("ignores further fields, and other spellings beside the right one", async () => {
    const record = { question: "q", answer: "a", question_id: 3, answers: ["b"], idx: 1, sample_id: "s" };
    expect(await read(JSON.stringify(record))).toMatchObject([{ kind: "qa", answers: ["a"] }]);
    expect(await read('{"question":"q","answer":"- a\\n---\\n- b"}')).toMatchObject([{ kind: "qa" }]);
  });

  it("reports a missing file as WS_IO", async () => {
    await expect(readTasks(join(directory, "none.jsonl")).next()).rejects.toMatchObject({ code: "WS_IO" });
  });

  it("reads back what formatTask writes", () => {
    const text = fc.string({ minLength: 1 });
    const base = { instanceId: text, question: text, language: fc.constantFrom("en" as const, "zh" as const) };
    const task: fc.Arbitrary<Task> = fc.oneof(
      fc.record({ ...base, kind: fc.constant("qa" as const), answers: fc.array(text, { minLength: 1 }) }),
      fc.record({
        ...base,
        kind: fc.constant("table" as const),
        answer: text,
        uniqueColumns: fc.array(text, { minLength: 1 }),
        requiredColumns: fc.array(text),
      }),
    );
    fc.assert(
      fc.property(task, (value) => {
        expect(parseTask(formatTask(value), "x", 0)).toEqual(value);
      }),
    );
  });
});

describe("TaskOrder", () => {
  it("visits every task once an epoch, in an order fixed by seed and cursor", () => {
    const order = new TaskOrder(3, 10);
    const first = Array.from({ length: 10 }, (_, cursor) => order.at(cursor));
    const second = Array.from({ length: 10 }, (_, cursor) => order.at(10 + cursor));
    expect([...first].sort()).toEqual([...second].sort());
    expect(first).not.toEqual(second);
    expect(new TaskOrder(3, 10).at(17)).toBe(second[7]);
  });
});
