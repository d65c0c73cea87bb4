// WideSearch's own result files, so that its scripts can read, score and sum up our answers. Owns names and fields only.
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { atBoundary, makeFolder, type RewardBreakdown, type TableScore, WideSeekError } from "@wideseek/spec";
import { mean } from "./bootstrap.ts";
import type { EvaluationReport } from "./evaluate.ts";

/** Cell by cell, as `rewards` compares tables. */
export interface ComparedTable {
  columns: readonly string[];
  matched: readonly { response: readonly string[]; target: readonly string[]; scores: readonly number[] }[];
  missing: readonly (readonly string[])[];
  unexpected: readonly (readonly string[])[];
}

export interface OfficialSample {
  instanceId: string;
  /** Index of the sample. */
  trial: number;
  question: string;
  /** The final message, without thinking. */
  response: string;
  reward: RewardBreakdown;
  /** Left out when there was no table to compare. */
  table?: ComparedTable | undefined;
}

/** Official name to ours. */
const metrics: Readonly<Record<string, keyof TableScore>> = {
  score: "success",
  precision_by_row: "rowPrecision",
  recall_by_row: "rowRecall",
  f1_by_row: "rowF1",
  precision_by_item: "itemPrecision",
  recall_by_item: "itemRecall",
  f1_by_item: "itemF1",
};

/**
 * Files of one evaluation in a folder of its own. Every file is written whole, then renamed; one that a killed evaluation
 * left for a sample which runs again is replaced by the same sample, nothing else is ever overwritten.
 */
export class OfficialLayout {
  readonly #directory: string;
  readonly #model: string;

  /** @param model the first part of every name; what no file name may hold becomes "-" */
  constructor(directory: string, model: string) {
    this.#directory = directory;
    this.#model = fileName(model);
  }

  /** `<model>_<id>_<trial>_response.jsonl`, and `_eval_result.json` and `.csv` where the sample was judged. @throws WS_IO */
  async writeSample(sample: OfficialSample): Promise<void> {
    const { instanceId, trial, question, response, reward } = sample;
    const name = `${this.#model}_${fileName(instanceId)}_${trial}`;
    const messages = [
      { role: "user", content: question },
      { role: "assistant", content: response },
    ];
    // The official reader takes these four fields and refuses any other.
    const line = JSON.stringify({ instance_id: instanceId, response, messages, trial_idx: trial });
    await this.#write(`${name}_response.jsonl`, `${line}\n`);
    if (!reward.judged) return;
    const scores = Object.fromEntries(
      Object.entries(metrics).map(([official, ours]) => [official, reward.table?.[ours] ?? 0]),
    );
    const result = { instance_id: instanceId, ...scores, msg: reward.reason };
    await this.#write(`${name}_eval_result.csv`, comparisonCsv(sample.table));
    await this.#write(`${name}_eval_result.json`, `${JSON.stringify(result, null, 4)}\n`);
  }

  /**
   * `<model>_trial_num_<k>_summary.json`: mean, best and worst of k, over the given tasks. Like the official script it needs
   * every trial; a task with one that was not judged is left out and named in the answer.
   */
  async writeSummary(report: EvaluationReport, instanceIds: ReadonlySet<string>): Promise<{ leftOut: string[] }> {
    const tasks = report.tasks.filter((task) => instanceIds.has(task.instanceId));
    const isWhole = (task: (typeof tasks)[number]): boolean =>
      task.episodes.length === report.samples && task.episodes.every(({ reward }) => reward.judged);
    const whole = tasks.filter(isWhole);
    const leftOut = tasks.filter((task) => !isWhole(task)).map((task) => task.instanceId);
    if (whole.length === 0) return { leftOut };
    const summary = Object.fromEntries(
      Object.entries(metrics).map(([official, ours]) => {
        const values = whole.map((task) => task.episodes.map(({ reward }) => reward.table?.[ours] ?? 0));
        return [
          official,
          {
            avg_n: mean(values.map(mean)),
            max_n: mean(values.map((samples) => Math.max(...samples))),
            min_n: mean(values.map((samples) => Math.min(...samples))),
          },
        ];
      }),
    );
    await this.#write(
      `${this.#model}_trial_num_${report.samples}_summary.json`,
      `${JSON.stringify(summary, null, 2)}\n`,
    );
    return { leftOut };
  }

  async #write(name: string, text: string): Promise<void> {
    await atBoundary("WS_IO", "write official results", async () => {
      makeFolder(this.#directory);
      const path = join(this.#directory, name);
      const file = await open(`${path}.tmp`, "w");
      try {
        await file.writeFile(text);
      } finally {
        await file.close();
      }
      await rename(`${path}.tmp`, path);
    });
  }
}

/** What no file name may hold becomes "-". @throws WS_INVALID_ARGUMENT when nothing is left */
export function fileName(text: string): string {
  const name = text.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+|-+$/g, "");
  if (name !== "") return name;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${JSON.stringify(text)}: nothing in it can be part of a file name`);
}

function comparisonCsv(table: ComparedTable | undefined): string {
  if (table === undefined) return "row\n";
  const { columns } = table;
  const head = ["row", ...columns.flatMap((name) => [`${name}_response`, `${name}_target`, `${name}_score`])];
  const lines = [
    ...table.matched.map(({ response, target, scores }) => [
      "matched",
      ...columns.flatMap((_, index) => [response[index] ?? "", target[index] ?? "", String(scores[index] ?? "")]),
    ]),
    ...table.missing.map((row) => ["missing", ...columns.flatMap((_, index) => ["", row[index] ?? "", ""])]),
    ...table.unexpected.map((row) => ["unexpected", ...columns.flatMap((_, index) => [row[index] ?? "", "", ""])]),
  ];
  return `${[head, ...lines].map((cells) => cells.map(csvCell).join(",")).join("\n")}\n`;
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
