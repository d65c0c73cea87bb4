// Task files in the published training format: JSONL, one question a line.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { invalidInput, type Task, WideSeekError } from "@wideseek/spec";
import { z } from "zod";

/** `evaluation` comes as an object or as JSON text (WideSearch); only the required columns are read here. */
const evaluationObject = z.looseObject({ required: z.array(z.string()).optional() });
const evaluationSchema = z.union([
  evaluationObject,
  z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: "custom", message: "neither an object nor JSON text" });
        return z.NEVER;
      }
    })
    .pipe(evaluationObject),
]);

const recordSchema = z.looseObject({
  question: z.string().min(1).optional(),
  query: z.string().min(1).optional(),
  answer: z.union([z.string(), z.array(z.string()).min(1)]),
  unique_columns: z.array(z.string()).nullish(),
  is_markdown: z.boolean().optional(),
  instance_id: z.union([z.string(), z.number()]).optional(),
  language: z.enum(["en", "zh"]).optional(),
  evaluation: evaluationSchema.nullish(),
});

/**
 * Streams the tasks of a JSONL file; an empty line is skipped.
 * A record is a table task when `is_markdown` is true or, if the field is absent, when it names unique columns.
 * @throws WS_IO when the file cannot be read, WS_INVALID_ARGUMENT naming file and line for a broken record
 */
export async function* readTasks(path: string): AsyncGenerator<Task> {
  const lines = createInterface({ input: createReadStream(path, "utf8"), crlfDelay: Number.POSITIVE_INFINITY });
  let lineNumber = 0;
  try {
    for await (const line of lines) {
      lineNumber++;
      if (line.trim() !== "") yield parseTask(line, `${path}:${lineNumber}`, lineNumber - 1);
    }
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError("WS_IO", `readTasks: cannot read ${path}: ${(error as Error).message}`, { cause: error });
  } finally {
    lines.close();
  }
}

/** Parses one line; `where` names it in errors, `index` is the id of a record without one. */
export function parseTask(line: string, where: string, index: number): Task {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (error) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: not JSON: ${(error as Error).message}`, { cause: error });
  }
  const parsed = recordSchema.safeParse(json);
  if (!parsed.success) throw invalidInput(where, parsed.error);
  const record = parsed.data;
  const question = record.question ?? record.query;
  if (question === undefined) throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: question: missing`);
  const instanceId = String(record.instance_id ?? index);
  const language = record.language ?? (/zh/.test(instanceId) ? "zh" : "en");
  const uniqueColumns = record.unique_columns ?? [];
  if (!(record.is_markdown ?? uniqueColumns.length > 0)) {
    const answers = typeof record.answer === "string" ? [record.answer] : record.answer;
    return { kind: "qa", instanceId, question, language, answers };
  }
  if (typeof record.answer !== "string" || uniqueColumns.length === 0) {
    const problem =
      uniqueColumns.length === 0 ? "unique_columns: a table needs at least one" : "answer: a table is text";
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: ${problem}`);
  }
  const requiredColumns = record.evaluation?.required ?? [];
  return { kind: "table", instanceId, question, language, answer: record.answer, uniqueColumns, requiredColumns };
}

/** The line that `parseTask` reads back to an equal task. */
export function formatTask(task: Task): string {
  const common = { question: task.question, instance_id: task.instanceId, language: task.language };
  return JSON.stringify(
    task.kind === "qa"
      ? { ...common, answer: task.answers, unique_columns: null, is_markdown: false }
      : {
          ...common,
          answer: task.answer,
          unique_columns: task.uniqueColumns,
          is_markdown: true,
          evaluation: { required: task.requiredColumns },
        },
  );
}
