// One line of a file of scorer cases: an answer, the gold table and how it is scored. Owns the shape.
import { invalidInput, type TableEvaluation, tableEvaluationSchema } from "@wideseek/spec";
import { z } from "zod";

export interface TableCase {
  /** The answer's text; null = there was none. */
  response: string | null;
  gold_csv: string;
  evaluation: TableEvaluation;
}

const schema = z.object({
  response: z.string().nullable(),
  gold_csv: z.string(),
  evaluation: tableEvaluationSchema,
});

/** Undefined for a case of another kind. @throws WS_INVALID_ARGUMENT naming `where` and the key */
export function parseTableCase(value: unknown, where: string): TableCase | undefined {
  const { kind = "table" } = (value ?? {}) as { kind?: unknown };
  if (kind !== "table") return undefined;
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalidInput(where, parsed.error, value);
  return parsed.data;
}
