import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { evaluate } from "./evaluate.ts";
import { OfficialLayout } from "./official-layout.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "official-"));
});
afterEach(() => rm(directory, { recursive: true }));

const read = (name: string): Promise<string> => readFile(join(directory, name), "utf8");
const sample = {
  instanceId: "ws_en_001",
  trial: 2,
  question: "All?",
  response: "```markdown\n| a |\n```",
  reward: tableReward(0.5),
};

test("writes the files that the official scripts read, with their fields and no others", async () => {
  const table = {
    columns: ["name", "note"],
    matched: [{ response: ["A", 'say "x", y'], target: ["A", "z"], scores: [1, 0] }],
    missing: [["B", "b"]],
    unexpected: [["C", "c"]],
  };
  await new OfficialLayout(directory, "models/qwen3-4b").writeSample({ ...sample, table });
  expect(JSON.parse(await read("models-qwen3-4b_ws_en_001_2_response.jsonl"))).toEqual({
    instance_id: "ws_en_001",
    response: sample.response,
    messages: [
      { role: "user", content: "All?" },
      { role: "assistant", content: sample.response },
    ],
    trial_idx: 2,
  });
  expect(JSON.parse(await read("models-qwen3-4b_ws_en_001_2_eval_result.json"))).toEqual({
    instance_id: "ws_en_001",
    score: 0,
    precision_by_row: 0.25,
    recall_by_row: 0.25,
    f1_by_row: 0.25,
    precision_by_item: 0.5,
    recall_by_item: 0.5,
    f1_by_item: 0.5,
    msg: "rule judge",
  });
  expect(await read("models-qwen3-4b_ws_en_001_2_eval_result.csv")).toBe(
    [
      "row,name_response,name_target,name_score,note_response,note_target,note_score",
      'matched,A,A,1,"say ""x"", y",z,0',
      "missing,,B,,,b,",
      "unexpected,C,,,c,,",
      "",
    ].join("\n"),
  );
});

test("a sample that was not judged has a response and no result", async () => {
  await new OfficialLayout(directory, "m").writeSample({ ...sample, reward: tableReward(0, false) });
  expect(await readdir(directory)).toEqual(["m_ws_en_001_2_response.jsonl"]);
});

test("sums up the tasks that have every trial", async () => {
  const scores = [1, 0.5, 0.25, 0];
  const report = await evaluate({
    tasks: ["a", "b", "c"].map(tableTask),
    samples: 2,
    concurrency: 1,
    runEpisode: async (task, index, seed) => episodeOf(task, index, seed),
    score: async ({ task, sample: index }) =>
      tableReward(scores[(task.instanceId === "a" ? 0 : 2) + index] ?? 0, task.instanceId !== "c" || index === 0),
  });
  const layout = new OfficialLayout(directory, "m");
  expect(await layout.writeSummary(report, new Set(["a", "b", "c"]))).toEqual({ leftOut: ["c"] });
  const summary = JSON.parse(await read("m_trial_num_2_summary.json"));
  expect(summary.f1_by_item).toEqual({ avg_n: (0.75 + 0.125) / 2, max_n: (1 + 0.25) / 2, min_n: 0.25 });
  expect(summary.score).toEqual({ avg_n: 0.25, max_n: 0.5, min_n: 0 });
  expect(Object.keys(summary)).toHaveLength(7);
});

test("refuses a model without a name", () => {
  expect(() => new OfficialLayout(directory, "../..")).toThrow(/file name/);
});
