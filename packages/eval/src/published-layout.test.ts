import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Episode, QaTask, RewardBreakdown, Task } from "@wideseek/spec";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type EvaluationReport, evaluate } from "./evaluate.ts";
import { type PublishedFiles, writePublishedFiles } from "./published-layout.ts";
import { episodeOf, tableReward, tableTask, trajectory } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "published-"));
});
afterEach(() => rm(directory, { recursive: true }));

const fact = (instanceId: string): QaTask => ({
  kind: "qa",
  instanceId,
  question: "Who?",
  language: "en",
  answers: ["A", "B"],
});
const factReward = (score: number, judged = true): RewardBreakdown => {
  const { table: _, ...reward } = tableReward(score, judged);
  return { ...reward, qa: { exactMatch: score, tokenF1: score } };
};
const facts = (numPromptTokens: number, numTokens: number, calls: object = {}, cutOff = false) => ({
  ...{ numPromptTokens, numTokens, cutOff, numSubagentCalls: 0, numSearches: 0, numAccesses: 0 },
  ...calls,
});

/** A lead of two turns that hands out one subtask; its subagent of three turns searches twice, then opens a page. */
function team(task: Task, sample: number, seed: bigint): Episode {
  const lead = trajectory("lead", "lead", task.kind === "qa" ? "\\boxed{A}" : "| River |");
  const worker = trajectory("1", "subagent", "Elbe");
  lead.turns = [facts(10, 4, { numSubagentCalls: 1 }), facts(20, 6)];
  worker.turns = [facts(8, 2, { numSearches: 2 }), facts(16, 2, { numAccesses: 1 }), facts(30, 3, {}, true)];
  return { ...episodeOf(task, sample, seed), trajectories: [lead, worker] };
}

const resultsFile = (): string => join(directory, "results.jsonl");
const tracesFile = (): string => join(directory, "episodes.jsonl");

interface Scored {
  tasks: Task[];
  score(task: Task, sample: number): RewardBreakdown;
  runEpisode?: typeof team;
}

async function run({ tasks, score, runEpisode = team }: Scored): Promise<EvaluationReport> {
  return await evaluate({
    tasks,
    samples: 2,
    concurrency: 1,
    runEpisode: async (task, sample, seed) => runEpisode(task, sample, seed),
    score: async ({ task, sample }) => score(task, sample),
    resumeFile: resultsFile(),
  });
}

async function write(tasks: readonly Task[], report: EvaluationReport, more: Partial<PublishedFiles> = {}) {
  await writePublishedFiles({
    directory: join(directory, "out"),
    experimentName: "mas",
    report,
    tasks,
    dataPaths: ["held-out.jsonl"],
    resultsFile: resultsFile(),
    tracesFile: tracesFile(),
    readAnswer: (task, text) => (task.kind === "qa" ? /\{(.*)\}/.exec(text)?.[1] : [{ River: text.length }]),
    goldOf: (task) => (task.kind === "qa" ? task.answers : task.answer),
    now: new Date(2026, 0, 31, 23, 59, 8),
    ...more,
  });
  const read = async (name: string) => JSON.parse(await readFile(join(directory, "out", name), "utf8"));
  return { metrics: await read("metrics.json"), all: await read("allresults.json"), read };
}

test("facts: the published files with their fields, and no others", async () => {
  const tasks = [fact("a"), fact("b")];
  // a: wrong, right; b: both wrong.
  const report = await run({ tasks, score: (task, sample) => factReward(task.instanceId === "a" ? sample : 0) });
  const { metrics, all, read } = await write(tasks, report);
  expect(metrics).toEqual({
    dataset_size: 2,
    experiment_name: "mas",
    timestamp: "20260131_235908",
    config: { group_size: 2, data_paths: ["held-out.jsonl"] },
    metrics: {
      "pass@1": 0,
      "avg@k": 0.25,
      "pass@k": 0.5,
      avg_prompt_length: (10 + 20 + 8 + 16 + 30) / 5,
      avg_response_length: (4 + 6 + 2 + 2 + 3) / 5,
      avg_total_length: (84 + 17) / 5,
      total_num_trajectories: 4,
      avg_turns_per_traj: 5,
      // One of two lead turns had a call, and two of three worker turns: those without are in no mean.
      turn_avg_subtask: 1,
      turn_avg_search: 1,
      turn_avg_access: 0.5,
      traj_avg_subtask: 1,
      traj_avg_search: 2,
      traj_avg_access: 1,
      final_answer_format: 1,
      avg_main_agent_turns_per_traj: 2,
      avg_subagent_turns_per_traj: 3,
      avg_num_subagents_per_traj: 1,
    },
  });
  expect(all.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
  const [first] = all;
  expect(Object.keys(first)).toEqual(["index", "group_size", "answer", "samples"]);
  expect(first.answer).toEqual({ answer: ["A", "B"], is_markdown: false, instance_id: "a", language: "en" });
  expect(first.samples[1]).toEqual({
    sample_idx: 1,
    num_turns: 5,
    turns: expect.any(Array),
    origin_question: "Who?",
    final_answer: "A",
    final_answer_text: "\\boxed{A}",
    total_turn_list: [3, 2],
    final_answer_format: 1,
    llm_reward: 1,
  });
  const turn = { prompt_text: null, response_text: null, reward_score: 1.1 };
  const calls = { subtask: 0, search: 0, access: 0 };
  expect(first.samples[1].turns).toEqual([
    {
      ...{ ...turn, prompt_ids_length: 10, response_ids_length: 4, is_end: true, role: "planner" },
      tool_call_info: { ...calls, subtask: 1, role: "planner" },
    },
    { ...turn, prompt_ids_length: 20, response_ids_length: 6, is_end: true, role: "planner", tool_call_info: null },
    {
      ...{ ...turn, prompt_ids_length: 8, response_ids_length: 2, is_end: true, role: "worker" },
      tool_call_info: { ...calls, search: 2, role: "worker" },
    },
    {
      ...{ ...turn, prompt_ids_length: 16, response_ids_length: 2, is_end: true, role: "worker" },
      tool_call_info: { ...calls, access: 1, role: "worker" },
    },
    { ...turn, prompt_ids_length: 30, response_ids_length: 3, is_end: false, role: "worker", tool_call_info: null },
  ]);
  expect((await readdir(join(directory, "out", "responses"))).sort()).toEqual([
    "mas_a_0_response.jsonl",
    "mas_a_1_response.jsonl",
    "mas_b_0_response.jsonl",
    "mas_b_1_response.jsonl",
  ]);
  expect(await read("responses/mas_a_1_response.jsonl")).toEqual({
    instance_id: "a",
    trial_idx: 1,
    final_answer: "A",
    final_answer_text: "\\boxed{A}",
    llm_reward: 1,
    final_answer_format: 1,
    num_turns: 5,
    origin_question: "Who?",
  });
});

test("tables: rows, the gold table, and figures that the published file lacks", async () => {
  const tasks = [tableTask("t")];
  const report = await run({ tasks, score: (_, sample) => tableReward(sample === 0 ? 0.5 : 1) });
  const { metrics, all } = await write(tasks, report);
  expect(Object.keys(metrics.metrics)).not.toContain("avg@k");
  expect(metrics.metrics).toMatchObject({ "item_f1_avg@k": 0.75, "item_f1_max@k": 1, "success_pass@k": 1 });
  expect(all[0].answer).toEqual({
    answer: "| River |\n|---|\n| Elbe |",
    unique_columns: ["River"],
    is_markdown: true,
    instance_id: "t",
    language: "en",
  });
  expect(all[0].samples[0]).toMatchObject({ final_answer: [{ River: 9 }], llm_reward: 0.5 });
});

test("what was not judged is null and in no score; an agent that did not answer has no answer", async () => {
  const tasks = [fact("a"), fact("b")];
  const runEpisode = (task: Task, sample: number, seed: bigint): Episode => {
    const single = { ...trajectory("single", "single", "\\boxed{A"), stopReason: "context" as const };
    return { ...episodeOf(task, sample, seed), workflow: "sa", trajectories: [single] };
  };
  const score = (task: Task, sample: number): RewardBreakdown => factReward(1, task.instanceId === "a" && sample === 1);
  const { metrics, all } = await write(tasks, await run({ tasks, score, runEpisode }));
  expect(metrics.metrics).toMatchObject({ "avg@k": 1, final_answer_format: 0 });
  expect(Object.keys(metrics.metrics)).not.toContain("avg_num_subagents_per_traj");
  expect(all[1].samples[0]).toMatchObject({
    llm_reward: null,
    total_turn_list: null,
    final_answer: null,
    final_answer_format: 0,
    num_turns: 2,
  });
});

test("recorded episodes have their texts: every turn its whole prompt", async () => {
  const tasks = [fact("a")];
  const report = await run({ tasks, score: () => factReward(1) });
  const said = (kind: "given" | "sampled", text: string) => ({ kind, text });
  const segments = [said("given", "P1 "), said("sampled", "R1"), said("given", " T1 "), said("sampled", "R2a")];
  const { trajectories, ...episode } = team(fact("a"), 1, 5n);
  const agents = trajectories.map((agent, index) => ({
    ...agent,
    // Two versions of the weights wrote the last turn of the lead.
    segments: index === 0 ? [...segments, said("sampled", "R2b")] : [said("given", "W"), said("sampled", "r1")],
  }));
  const trace = { step: 0, ...episode, seed: "5", reward: factReward(1), agents };
  await writeFile(tracesFile(), `${JSON.stringify(trace)}\n{"step": 0, "ta`);
  const { all } = await write(tasks, report);
  const texts = all[0].samples.map(({ turns }: { turns: { prompt_text: string; response_text: string }[] }) =>
    turns.map(({ prompt_text, response_text }) => [prompt_text, response_text]),
  );
  expect(texts[0]).toEqual(Array(5).fill([null, null]));
  expect(texts[1].slice(0, 3)).toEqual([
    ["P1 ", "R1"],
    ["P1 R1 T1 ", "R2aR2b"],
    ["W", "r1"],
  ]);
});

test("a resumed evaluation has everything, and writes the same again", async () => {
  const tasks = [fact("a")];
  const first = await write(tasks, await run({ tasks, score: (_, sample) => factReward(1, sample === 0) }));
  expect(first.all[0].samples[1].llm_reward).toBeNull();
  // Judged again, without running the episode again.
  const second = await write(tasks, await run({ tasks, score: () => factReward(1) }));
  expect(second.all[0].samples[1]).toEqual({
    ...first.all[0].samples[1],
    llm_reward: 1,
    turns: first.all[0].samples[1].turns.map((turn: object) => ({ ...turn, reward_score: 1.1 })),
  });
  expect(await readdir(join(directory, "out"))).toEqual(["allresults.json", "metrics.json", "responses"]);
});
