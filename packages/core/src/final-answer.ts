// Answers and gold in the form of the published result files. Owns no scoring.
import {
  extractBoxed,
  formatMarkdownTable,
  parseCsvTable,
  parseMarkdownTable,
  type RewardOptions,
  stripThinking,
} from "@wideseek/rewards";
import type { Task } from "@wideseek/spec";

/** Rows of a table by column, or the text of a boxed answer; undefined when the text has none of the demanded form. */
export function readFinalAnswer(task: Task, text: string, fence: RewardOptions["fence"]): unknown {
  const answer = stripThinking(text);
  if (task.kind === "qa") return extractBoxed(answer);
  const table = parseMarkdownTable(answer, fence);
  if (table === undefined || table.rows.length === 0) return undefined;
  return table.rows.map((row) => Object.fromEntries(table.columns.map((name, index) => [name, row[index] ?? ""])));
}

/** A Markdown table, or the texts of which any is right. */
export function publishedGold(task: Task): string | readonly string[] {
  if (task.kind === "qa") return task.answers;
  return task.answerFormat === "csv" ? formatMarkdownTable(parseCsvTable(task.answer)) : task.answer;
}
