// Scores a predicted table against a gold table. Owns the arithmetic shared by WideSearch and the training reward.

import { type Judge, type TableScore, WideSeekError } from "@wideseek/spec";
import { stripThinking } from "./answer-extract.ts";
import {
  type ColumnRule,
  meaningCriterion,
  type TableRules,
  type WideSearchEvaluation,
  wideSearchRules,
} from "./evaluation.ts";
import { checkedJudge } from "./judge.ts";
import { type CellMetric, cellMetrics, preprocessors } from "./metrics.ts";
import { canonicalNumber, isPlainNumber } from "./number.ts";
import { normalizeColumnName, type Table, trimSpace } from "./table.ts";
import { alignColumns, alignKeyCells, type ColumnAlignment, matchRows, rowKey } from "./table-align.ts";
import { type FencePolicy, parseCsvTable, parseMarkdownTable, unquote } from "./table-parse.ts";

export interface TableOutcome {
  score: TableScore;
  /** Why the table could not be compared at all; the score is then 0. */
  rejected?: string | undefined;
  /** What was compared with what; made when asked for. Undefined for a rejected table. */
  details?: (() => TableDetails) | undefined;
}

/** The comparison cell by cell, after columns and keys were aligned and before preprocessing. */
export interface TableDetails {
  /** Required columns, normalised. */
  columns: readonly string[];
  keyColumns: readonly string[];
  /** Rows that were found; cells and scores in the order of `columns`. */
  matched: { response: string[]; target: string[]; scores: number[] }[];
  /** Gold rows that no predicted row stands for, and predicted rows that stand for no gold row. */
  missing: string[][];
  unexpected: string[][];
}

/** WideSearch's metrics of an answer text; 0 without a usable table. Judge failures are thrown. */
export async function evaluateWideSearch(
  response: string | null,
  goldCsv: string,
  evaluation: WideSearchEvaluation,
  judge: Judge,
  options: { fence: FencePolicy; signal?: AbortSignal | undefined },
): Promise<TableScore> {
  const rules = wideSearchRules(evaluation);
  const gold = parseCsvTable(goldCsv);
  const predicted = response === null ? undefined : parseMarkdownTable(stripThinking(response), options.fence);
  if (predicted === undefined) return zeroTableScore();
  return (await scoreTable(predicted, gold, rules, checkedJudge(judge), options.signal)).score;
}

export function zeroTableScore(): TableScore {
  return { itemPrecision: 0, itemRecall: 0, itemF1: 0, rowPrecision: 0, rowRecall: 0, rowF1: 0, success: 0 };
}

/** Columns of cells by normalised name. */
type Columns = ReadonlyMap<string, readonly string[]>;

/** Compares two tables. Throws WS_INVALID_ARGUMENT if the gold table lacks a required column. */
export async function scoreTable(
  predicted: Table,
  gold: Table,
  rules: TableRules,
  judge: Judge,
  signal?: AbortSignal,
): Promise<TableOutcome> {
  const goldIndices = goldColumnIndices(gold, rules.requiredColumns);
  const alignment = await alignColumns(predicted, rules.requiredColumns, judge, signal);
  const rejected = columnProblem(alignment, rules);
  if (rejected !== undefined) return { score: zeroTableScore(), rejected };

  const predictedCells = new Map<string, readonly string[]>();
  const goldCells = new Map<string, readonly string[]>();
  for (const column of rules.requiredColumns) {
    const [ours, theirs] = comparableCells(
      cellsAt(predicted, alignment.indices.get(column)),
      cellsAt(gold, goldIndices.get(column)),
      rules.missingWords,
    );
    predictedCells.set(column, ours);
    goldCells.set(column, theirs);
  }

  await Promise.all(
    rules.uniqueColumns.map(async (column) => {
      const metrics = rules.columns.get(column)?.metrics ?? [];
      if (!metrics.includes("llm_judge") && !metrics.includes("exact_match")) return;
      const cells = await alignKeyCells(predictedCells.get(column) ?? [], goldCells.get(column) ?? [], judge, signal);
      predictedCells.set(column, cells);
    }),
  );

  const { pairs, numPredicted, numGold } = matchRows(
    rowKeys(predictedCells, predicted.rows.length, rules),
    rowKeys(goldCells, gold.rows.length, rules),
  );
  const valueColumns = rules.requiredColumns.filter((column) => !rules.uniqueColumns.includes(column));
  const columnScores = await Promise.all(
    valueColumns.map((column) => {
      const [ours, theirs] = [predictedCells.get(column) ?? [], goldCells.get(column) ?? []];
      const cells = pairs.map((pair) => ({ response: ours[pair.predicted] ?? "", target: theirs[pair.gold] ?? "" }));
      return scoreColumn(cells, rules.columns.get(column), judge, signal);
    }),
  );
  const rowScores = pairs.map((_, row) => columnScores.map((scores) => scores[row] ?? 0));
  const numColumns = rules.requiredColumns.length;
  // A matched key column earns its item without grading.
  const items = rowScores.reduce(
    (sum, row) => row.reduce((s, score) => s + score, sum + rules.uniqueColumns.length),
    0,
  );
  const rows = rowScores.reduce((sum, row) => sum + Math.min(1, ...row), 0);
  const item = precisionRecall(items, numPredicted * numColumns, numGold * numColumns);
  const row = precisionRecall(rows, numPredicted, numGold);
  return {
    score: {
      itemPrecision: item.precision,
      itemRecall: item.recall,
      itemF1: item.f1,
      rowPrecision: row.precision,
      rowRecall: row.recall,
      rowF1: row.f1,
      success: item.f1 === 1 && row.f1 === 1 ? 1 : 0,
    },
    details: () => {
      const columns = rules.requiredColumns;
      const rowOf = (cells: Columns, index: number): string[] => columns.map((name) => cells.get(name)?.[index] ?? "");
      const restOf = (cells: Columns, numRows: number, used: ReadonlySet<number>): string[][] =>
        Array.from({ length: numRows }, (_, index) => index).flatMap((index) =>
          used.has(index) ? [] : [rowOf(cells, index)],
        );
      return {
        columns,
        keyColumns: rules.uniqueColumns,
        matched: pairs.map((pair, index) => ({
          response: rowOf(predictedCells, pair.predicted),
          target: rowOf(goldCells, pair.gold),
          scores: columns.map((name) => {
            const column = valueColumns.indexOf(name);
            return column < 0 ? 1 : (columnScores[column]?.[index] ?? 0);
          }),
        })),
        missing: restOf(goldCells, gold.rows.length, new Set(pairs.map((pair) => pair.gold))),
        unexpected: restOf(predictedCells, predicted.rows.length, new Set(pairs.map((pair) => pair.predicted))),
      };
    },
  };
}

function precisionRecall(
  correct: number,
  numPredicted: number,
  numGold: number,
): { precision: number; recall: number; f1: number } {
  const precision = numPredicted === 0 ? 0 : correct / numPredicted;
  const recall = numGold === 0 ? 0 : correct / numGold;
  const sum = precision + recall;
  return { precision, recall, f1: sum <= 1e-9 ? 0 : (2 * precision * recall) / sum };
}

/** Where the required columns are. @throws WS_INVALID_ARGUMENT naming those that the gold table lacks */
export function goldColumnIndices(gold: Table, required: readonly string[]): Map<string, number> {
  const names = gold.columns.map(normalizeColumnName);
  const missing = required.filter((column) => !names.includes(column));
  if (missing.length > 0) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `gold table: no column ${missing.join(", ")}; it has ${gold.columns.join(", ")}`,
      { details: { missing, columns: names } },
    );
  }
  return new Map(required.map((column) => [column, names.indexOf(column)]));
}

function columnProblem(alignment: ColumnAlignment, rules: TableRules): string | undefined {
  if (alignment.missing.length > 0) return `columns missing: ${alignment.missing.join(", ")}`;
  if (rules.extraColumns === "reject" && alignment.extra.length > 0) {
    return `columns not asked for: ${alignment.extra.join(", ")}`;
  }
  return undefined;
}

function cellsAt(table: Table, index: number | undefined): string[] {
  return table.rows.map((row) => (index === undefined ? "" : (row[index] ?? "")));
}

/** Words that pandas, and so the benchmark, reads as "no value". */
const missingWords = new Set(
  "|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|"),
);
/** How the benchmark writes "no value", also to the judge. */
const missingText = "nan";

/** Cells of one column of both tables, spelled alike: one line each, equal numbers alike if either column holds only numbers. */
function comparableCells(
  predicted: readonly string[],
  gold: readonly string[],
  missing: boolean,
): [string[], string[]] {
  const clean = (cell: string): string => {
    const text = unquote(cell.split("\n").map(trimSpace).filter(Boolean).join(" "));
    return missing && missingWords.has(text) ? missingText : text;
  };
  const [ours, theirs] = [predicted.map(clean), gold.map(clean)];
  if (!isNumeric(ours) && !isNumeric(theirs)) return [ours, theirs];
  const canonical = (cell: string): string => (isPlainNumber(cell) ? canonicalNumber(cell) : cell);
  return [ours.map(canonical), theirs.map(canonical)];
}

function isNumeric(cells: readonly string[]): boolean {
  const values = cells.filter((cell) => cell !== missingText && cell !== "");
  return values.length > 0 && values.every(isPlainNumber);
}

function preprocess(cell: string, rule: ColumnRule | undefined): string {
  return (rule?.preprocess ?? []).reduce((text, name) => preprocessors[name](text), cell);
}

function rowKeys(columns: Columns, numRows: number, rules: TableRules): { exact: string; loose: string }[] {
  return Array.from({ length: numRows }, (_, row) => {
    const cells = rules.uniqueColumns.map((column) => columns.get(column)?.[row] ?? "");
    const loose = cells.map((cell, i) => {
      const rule = rules.columns.get(rules.uniqueColumns[i] ?? "");
      const text = preprocess(cell, rule);
      return rule?.preprocess.includes("extract_number") && isPlainNumber(text) ? canonicalNumber(text) : text;
    });
    return { exact: rowKey(cells), loose: rowKey(loose) };
  });
}

/** One score in [0, 1] for each pair of cells: the least of the column's metrics. */
async function scoreColumn(
  cells: readonly { response: string; target: string }[],
  rule: ColumnRule | undefined,
  judge: Judge,
  signal?: AbortSignal,
): Promise<number[]> {
  const metrics = rule?.metrics.length ? rule.metrics : (["exact_match"] as const);
  const prepared = cells.map(({ response, target }) => ({
    response: preprocess(response, rule),
    target: preprocess(target, rule),
  }));
  const scores = await Promise.all(
    metrics.map(async (metric) => {
      if (metric !== "llm_judge") {
        return cells.map((raw, i) => scoreCell(metric, raw, prepared[i] ?? raw, rule?.criterion));
      }
      if (prepared.length === 0) return [];
      const criterion = rule?.criterion === undefined ? meaningCriterion : String(rule.criterion);
      return await judge.gradePairs(prepared, criterion, signal);
    }),
  );
  return cells.map((_, i) => Math.min(...scores.map((column) => column[i] ?? 0)));
}

function scoreCell(
  metric: CellMetric,
  raw: { response: string; target: string },
  prepared: { response: string; target: string },
  criterion: unknown,
): number {
  // norm_str removes the spaces that keep two links apart, so links are read before it.
  if (metric === "url_match") return cellMetrics.url_match(raw.response, raw.target);
  // "nan" is a part of "finance".
  if (metric === "in_match" && raw.response === missingText) return raw.target === missingText ? 1 : 0;
  return cellMetrics[metric](prepared.response, prepared.target, criterion);
}
