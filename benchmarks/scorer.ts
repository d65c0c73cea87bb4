// Time to score 200 tasks x 4 samples without an LLM: WideSearch's own tables where they are there, else synthetic ones.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { evaluateWideSearch, parseCsvTable, RuleJudge, type Table, type WideSearchEvaluation } from "@wideseek/rewards";
import type { Benchmark } from "./context.ts";
import { timeSeconds } from "./measure.ts";

interface ScorerCase {
  goldCsv: string;
  gold: Table;
  evaluation: WideSearchEvaluation;
}

function wideSearchCases(dataDirectory: string): ScorerCase[] {
  const lines = readFileSync(join(dataDirectory, "widesearch/widesearch.jsonl"), "utf8").trim().split("\n");
  return lines.flatMap((line) => {
    const { instance_id, evaluation } = JSON.parse(line) as { instance_id: string; evaluation: string };
    const path = join(dataDirectory, "widesearch/gold", `${instance_id}.csv`);
    if (!existsSync(path)) return [];
    const goldCsv = readFileSync(path, "utf8");
    return [{ goldCsv, gold: parseCsvTable(goldCsv), evaluation: JSON.parse(evaluation) as WideSearchEvaluation }];
  });
}

function syntheticCase(task: number): ScorerCase {
  const rows = Array.from({ length: 40 }, (_, row) => [
    `entity ${task}.${row}`,
    `${row * 7}`,
    `2020-01-${(row % 28) + 1}`,
  ]);
  const gold = { columns: ["name", "count", "date"], rows };
  const column = (metric: string): WideSearchEvaluation["eval_pipeline"][string] => ({
    preprocess: [],
    metric: [metric],
  });
  const eval_pipeline = { name: column("exact_match"), count: column("number_near"), date: column("date_near") };
  const evaluation = { required: gold.columns, unique_columns: ["name"], eval_pipeline };
  return { goldCsv: [gold.columns, ...rows].map((row) => row.join(",")).join("\n"), gold, evaluation };
}

/** An answer as models give it: sample 0 is right, later ones lack rows and have wrong cells. */
function answer({ gold }: ScorerCase, sample: number): string {
  const clean = (cell: string): string => cell.replaceAll("|", "\\|").replaceAll("\n", "<br>");
  const rows = gold.rows
    .filter((_, row) => (row + sample) % 7 >= sample)
    .map((row, index) => row.map((cell, column) => clean((index + column) % 11 < sample ? `${cell} x` : cell)));
  const lines = [gold.columns, gold.columns.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`);
  return `\`\`\`markdown\n${lines.join("\n")}\n\`\`\``;
}

export const scorerBenchmark: Benchmark = async function* ({ smoke, rounds, dataDirectory }) {
  const numTasks = smoke ? 4 : 200;
  const samples = 4;
  const real = dataDirectory !== null && !smoke;
  const distinct = real
    ? wideSearchCases(dataDirectory)
    : Array.from({ length: numTasks }, (_, task) => syntheticCase(task));
  const work = Array.from({ length: numTasks }, (_, task) => distinct[task % distinct.length] as ScorerCase).flatMap(
    (each) => Array.from({ length: samples }, (_, sample) => ({ ...each, response: answer(each, sample) })),
  );
  const scoreAll = async (): Promise<void> => {
    const judge = new RuleJudge();
    for (const { response, goldCsv, evaluation } of work) {
      await evaluateWideSearch(response, goldCsv, evaluation, judge, { fence: "last" });
    }
  };
  await scoreAll();
  const values: number[] = [];
  for (let round = 0; round < rounds; round++) values.push(await timeSeconds(scoreAll));
  const cells = work.reduce((sum, { gold }) => sum + gold.rows.length * gold.columns.length, 0);
  const params = { tasks: numTasks, samples, goldTables: distinct.length, goldCells: cells, judge: "rule" };
  const name = real ? "scorer.widesearch800.seconds" : `scorer.synthetic${work.length}.seconds`;
  yield { name, unit: "s", values, params };
};
