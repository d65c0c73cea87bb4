// The scoring specification of a table task. Owns its WideSearch file form and the rules made of it.

import { invalidInput, type TableEvaluation, tableEvaluationSchema, WideSeekError } from "@wideseek/spec";
import { cellMetrics, type Metric, type Preprocess, preprocessors } from "./metrics.ts";
import { normalizeColumnName } from "./table.ts";

/** How one column is scored. Metrics are all needed: a cell earns the least of them. */
export interface ColumnRule {
  preprocess: readonly Preprocess[];
  /** None: cells must be equal. */
  metrics: readonly Metric[];
  /** Tolerance of `number_near`, or what `llm_judge` is told. */
  criterion?: number | string | undefined;
}

/** How a table is scored. Column names are normalised. */
export interface TableRules {
  requiredColumns: readonly string[];
  /** Key of a row; a subset of the required columns, never empty. */
  uniqueColumns: readonly string[];
  columns: ReadonlyMap<string, ColumnRule>;
  /** `reject`: a table with further columns scores 0. */
  extraColumns: "reject" | "ignore";
  /** True: "", "NA", "null" and the like all mean "no value" and equal each other. */
  missingWords: boolean;
}

/** `evaluation` of a WideSearch task, as published. */
export type WideSearchEvaluation = TableEvaluation;

/** Told to the judge where a column has no criterion of its own. */
export const meaningCriterion: string =
  "The response means about the same as the target or names the same entity; the wording may differ.";

/** Rules of the WideSearch benchmark. Throws WS_INVALID_ARGUMENT on a specification that cannot be applied. */
export function wideSearchRules(evaluation: WideSearchEvaluation): TableRules {
  const parsed = tableEvaluationSchema.safeParse(evaluation);
  if (!parsed.success) throw invalidInput("evaluation", parsed.error, evaluation);
  const { required, unique_columns, eval_pipeline } = parsed.data;
  const columns = new Map<string, ColumnRule>();
  for (const [name, rule] of Object.entries(eval_pipeline)) {
    columns.set(normalizeColumnName(name), {
      preprocess: rule.preprocess.map((value) => known(name, "preprocess", value, isPreprocess)),
      metrics: rule.metric.map((value) => known(name, "metric", value, isMetric)),
      criterion: rule.criterion ?? undefined,
    });
  }
  return { ...keyColumns(required, unique_columns), columns, extraColumns: "reject", missingWords: true };
}

/** Rules of the training reward: every column is judged by meaning, further columns are ignored. */
export function trainingRules(requiredColumns: readonly string[], uniqueColumns: readonly string[]): TableRules {
  const keys = keyColumns(requiredColumns, uniqueColumns);
  const rule: ColumnRule = { preprocess: [], metrics: ["llm_judge"] };
  const columns = new Map(keys.requiredColumns.map((column) => [column, rule] as const));
  return { ...keys, columns, extraColumns: "ignore", missingWords: false };
}

/** Key columns are required too. Without any, all columns together identify a row. */
function keyColumns(
  required: readonly string[],
  unique: readonly string[],
): Pick<TableRules, "requiredColumns" | "uniqueColumns"> {
  const uniqueColumns = [...new Set(unique.map(normalizeColumnName))];
  const requiredColumns = [...new Set([...required.map(normalizeColumnName), ...uniqueColumns])];
  return { requiredColumns, uniqueColumns: uniqueColumns.length === 0 ? requiredColumns : uniqueColumns };
}

function isPreprocess(value: string): value is Preprocess {
  return Object.hasOwn(preprocessors, value);
}

function isMetric(value: string): value is Metric {
  return value === "llm_judge" || Object.hasOwn(cellMetrics, value);
}

function known<T extends string>(column: string, what: string, value: string, guard: (v: string) => v is T): T {
  if (guard(value)) return value;
  const names = what === "metric" ? [...Object.keys(cellMetrics), "llm_judge"] : Object.keys(preprocessors);
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `evaluation: column "${column}" asks for ${what} "${value}"; known are ${names.join(", ")}`,
    { details: { column, [what]: value } },
  );
}
