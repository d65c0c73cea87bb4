// The scoring specification of a WideSearch task in its published form. Owns the shape; `rewards` knows the names in it.
import { z } from "zod";

/** How one column of a table is scored; the names are the benchmark's. */
export interface ColumnEvaluation {
  /** Applied to a cell in this order. */
  preprocess: string[];
  /** All of them are needed: a cell earns the least. */
  metric: string[];
  /** Tolerance of a number, or what the judge is told. */
  criterion?: number | string | null | undefined;
}

/** `evaluation` of a WideSearch task. Column names are compared without case and spaces. */
export interface TableEvaluation {
  required: string[];
  unique_columns: string[];
  eval_pipeline: Record<string, ColumnEvaluation>;
}

export const tableEvaluationSchema: z.ZodType<TableEvaluation> = z.object({
  required: z.array(z.string()).min(1),
  unique_columns: z.array(z.string()),
  eval_pipeline: z.record(
    z.string(),
    z.object({
      preprocess: z.array(z.string()),
      metric: z.array(z.string()),
      criterion: z.union([z.number(), z.string()]).nullish(),
    }),
  ),
});
