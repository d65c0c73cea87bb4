// The real benchmark files: they load, and every WideSearch gold table scores 1 against itself. The data is shared.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { readQaSet, readWideSearch } from "../../packages/data/src/index.ts";
import {
  checkTableTask,
  formatMarkdownTable,
  parseCsvTable,
  parseMarkdownTable,
  RuleJudge,
  scoreEpisode,
  type Table,
} from "../../packages/rewards/src/index.ts";
import type { Episode, RewardBreakdown, TableTask, Trajectory } from "../../packages/spec/src/index.ts";
import { sharedData } from "../shared-data.ts";

const folder = resolve(sharedData, "data/widesearch");
const qa = resolve(sharedData, "data/qa");
const hasWideSearch = existsSync(resolve(folder, "widesearch.jsonl"));
const hasQa = existsSync(qa);
const { tasks, withoutGold } = hasWideSearch
  ? await readWideSearch({ questions: resolve(folder, "widesearch.jsonl"), gold: resolve(folder, "gold") })
  : { tasks: [], withoutGold: [] };
const judge = new RuleJudge();

function answered(task: TableTask, table: Table): Episode {
  const lead: Trajectory = {
    agentId: "lead",
    role: "lead",
    prompt: task.question,
    segments: [],
    stopReason: "answered",
    numTurns: 1,
    numSubagentCalls: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer: `Here it is.\n\n\`\`\`markdown\n${formatMarkdownTable(table)}\n\`\`\``,
    errors: [],
  };
  return { task, sample: 0, seed: 0n, workflow: "mas", trajectories: [lead], seconds: 0 };
}

/** The gold table as an answer has the required columns only: the benchmark refuses further ones. */
function goldAnswer(task: TableTask): Table {
  const gold = parseCsvTable(task.answer);
  const plain = (name: string): string => name.toLowerCase().replaceAll(" ", "");
  const indices = task.requiredColumns.map((column) => gold.columns.findIndex((name) => plain(name) === plain(column)));
  const pick = (row: readonly string[]): string[] => indices.map((index) => row[index] ?? "");
  return { columns: pick(gold.columns), rows: gold.rows.map(pick) };
}

const score = (task: TableTask, table: Table): Promise<RewardBreakdown> =>
  scoreEpisode(answered(task, table), { judge, columnRules: "task" });

describe.skipIf(!hasWideSearch)("WideSearch", () => {
  it("has every question, with or without its gold table", () => {
    expect(tasks.length + withoutGold.length).toBe(200);
    expect(withoutGold.length).toBe(53);
    expect(tasks.filter(({ language }) => language === "zh").length).toBeGreaterThan(50);
  });

  it.each(tasks.map((task) => [task.instanceId, task] as const))("%s: gold against itself is 1", async (_id, task) => {
    checkTableTask(task);
    const table = goldAnswer(task);
    expect(parseMarkdownTable(formatMarkdownTable(table), "last")?.rows.length).toBe(table.rows.length);
    const reward = await score(task, table);
    expect(reward).toMatchObject({ judged: true, score: 1, table: { itemF1: 1, rowF1: 1, success: 1 } });
  });

  it("a gold table without a row and with a wrong cell scores less", async () => {
    for (const task of tasks) {
      const table = goldAnswer(task);
      const first = table.rows[0];
      if (first === undefined || table.rows.length < 2) continue;
      const fewer = await score(task, { ...table, rows: table.rows.slice(1) });
      expect(fewer.table?.success).toBe(0);
      const wrong = await score(task, { ...table, rows: [first.map(() => "zzz-9"), ...table.rows.slice(1)] });
      expect(wrong.score).toBeLessThan(1);
    }
  });
});

it("runs the WideSearch tables when they are there", (context) => {
  if (!hasWideSearch) context.skip(`no tables at ${folder}`);
  expect(tasks.length).toBeGreaterThan(0);
});

const sets = [
  ["nq", "reason_over_search/nq.jsonl", 1000],
  ["triviaqa", "reason_over_search/triviaqa.jsonl", 1000],
  ["popqa", "reason_over_search/popqa.jsonl", 1000],
  ["bamboogle", "reason_over_search/bamboogle.jsonl", 125],
  ["hotpotqa", "r1_searcher/hotpotqa_500.jsonl", 500],
  ["2wiki", "r1_searcher/2wiki_500.jsonl", 500],
  ["musique", "r1_searcher/musique_500.jsonl", 500],
  ["bamboogle", "r1_searcher/bamboogle.jsonl", 125],
  ["bamboogle", "agentflow/bamboogle.json", 125],
  ["2wiki", "agentflow/2wiki.json", 200],
  ["hotpotqa", "agentflow/hotpotqa.json", 100],
  ["musique", "agentflow/musique.json", 200],
  ["hotpotqa", "react/hotpot_dev_v1_simplified.json", 7405],
  ["nq", "nq_open/NQ-open.dev.jsonl", 3610],
] as const;

describe.skipIf(!hasQa)("question answering sets", () => {
  it.each(sets)("%s from %s has %i questions", async (dataset, file, count) => {
    const questions = await readQaSet({ dataset, file: resolve(qa, file) });
    expect(questions).toHaveLength(count);
    for (const { question, answers } of questions) {
      expect(question).not.toMatch(/<answer>/);
      expect(answers.length).toBeGreaterThan(0);
    }
  });
});

it("reads the question answering sets when they are there", (context) => {
  if (!hasQa) context.skip(`no sets at ${qa}`);
  expect(sets.length).toBeGreaterThan(7);
});
