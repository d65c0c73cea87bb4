// Scores of evaluations as a table for the terminal. Owns no numbers.
import type { EvaluationResult } from "@wideseek/core";

const ROWS = [
  ["item F1", "itemF1", "avg"],
  ["item F1", "itemF1", "max"],
  ["row F1", "rowF1", "avg"],
  ["row F1", "rowF1", "max"],
  ["success", "success", "avg"],
  ["success", "success", "pass"],
  ["fact", "qaScore", "avg"],
  ["fact", "qaScore", "pass"],
] as const;

/** One column an evaluation, one row a measure; measures that do not apply are left out. */
export function scoreTable(results: readonly Pick<EvaluationResult, "name" | "report">[]): string {
  const names = results.map(({ name }) => name);
  const rows = ROWS.flatMap(([label, measure, statistic]) => {
    const values = results.map(({ report }) => report.measures[measure]?.[statistic].mean);
    if (!values.some((value) => value !== undefined && Number.isFinite(value))) return [];
    const k = results[0]?.report.samples ?? 0;
    return [[`${label} ${statistic}@${k}`, ...values.map((value) => value?.toFixed(3) ?? "-")]];
  });
  const table = [["held-out", ...names], ...rows];
  const widths = ["held-out", ...names].map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length)));
  const format = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ");
  return table.map(format).join("\n");
}
