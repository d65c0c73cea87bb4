// Task files in the published training format: JSONL, one question a line.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { editDistance, invalidInput, type Task, tableEvaluationSchema, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { withPlace } from "./task-place.ts";

/** `evaluation` comes as an object or as JSON text (WideSearch); with a pipeline it is the whole of a benchmark's scoring. */
const evaluationObject = z.looseObject({
  required: z.array(z.string()).optional(),
  unique_columns: z.array(z.string()).optional(),
  eval_pipeline: z.looseObject({}).optional(),
});
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

const fields = {
  question: z.string().min(1).optional(),
  query: z.string().min(1).optional(),
  answer: z.union([z.string(), z.array(z.string()).min(1)]),
  unique_columns: z.array(z.string()).nullish(),
  is_markdown: z.boolean().optional(),
  instance_id: z.union([z.string(), z.number()]).optional(),
  language: z.enum(["en", "zh"]).optional(),
  evaluation: evaluationSchema.nullish(),
};
const recordSchema = z.looseObject(fields);
type TaskRecord = z.output<typeof recordSchema>;

/**
 * Streams the tasks of a JSONL file; an empty line is skipped.
 * A record is a table task when `is_markdown` is true or, if the field is absent, when it names unique columns; one
 * that could be either is refused, and so is a misspelt field. Further fields are ignored.
 * @throws WS_IO when the file cannot be read, WS_INVALID_ARGUMENT naming file and line for a broken record
 */
export async function* readTasks(path: string): AsyncGenerator<Task> {
  const lines = createInterface({ input: createReadStream(path, "utf8"), crlfDelay: Number.POSITIVE_INFINITY });
  let lineNumber = 0;
  try {
    for await (const line of lines) {
      lineNumber++;
      const where = `${path}:${lineNumber}`;
      if (line.trim() !== "") yield withPlace(parseTask(line, where, lineNumber - 1), where);
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
  if (typeof json === "object" && json !== null) refuseMisspelt(json, where);
  const parsed = recordSchema.safeParse(json);
  if (!parsed.success) throw invalidInput(where, parsed.error, json);
  const record = parsed.data;
  const question = record.question ?? record.query;
  if (question === undefined) throw invalid(where, "question: missing");
  const instanceId = String(record.instance_id ?? index);
  const language = record.language ?? (/zh/.test(instanceId) ? "zh" : "en");
  if (!isTable(record, where)) {
    const answers = typeof record.answer === "string" ? [record.answer] : record.answer;
    return { kind: "qa", instanceId, question, language, answers };
  }
  const uniqueColumns = uniqueColumnsOf(record);
  if (uniqueColumns.length === 0) throw invalid(where, "unique_columns: a table needs at least one");
  if (typeof record.answer !== "string") throw invalid(where, "answer: a table is text");
  const requiredColumns = record.evaluation?.required ?? [];
  const common = { kind: "table", instanceId, question, language, answer: record.answer } as const;
  if (record.evaluation?.eval_pipeline === undefined) return { ...common, uniqueColumns, requiredColumns };
  const evaluation = tableEvaluationSchema.safeParse(record.evaluation);
  if (!evaluation.success) throw invalidInput(`${where}: evaluation`, evaluation.error, record.evaluation);
  return { ...common, uniqueColumns, requiredColumns, evaluation: evaluation.data };
}

function uniqueColumnsOf({ unique_columns, evaluation }: TaskRecord): string[] {
  return unique_columns ?? evaluation?.unique_columns ?? [];
}

/** Which kind a record is; scored as the wrong kind it would quietly earn nothing. */
function isTable(record: TaskRecord, where: string): boolean {
  const hasColumns = uniqueColumnsOf(record).length > 0;
  if (record.is_markdown === false && hasColumns) {
    throw invalid(where, "is_markdown: false, but unique_columns make it a table; leave one of them out");
  }
  if (record.is_markdown !== undefined || hasColumns) return record.is_markdown ?? true;
  const looksLikeTable = record.evaluation || [record.answer].flat().some((answer) => DELIMITER_ROW.test(answer));
  if (!looksLikeTable) return false;
  throw invalid(where, "unique_columns: missing, but this looks like a table; name them, or set is_markdown to false");
}

/** The line under the header of a Markdown table. */
const DELIMITER_ROW = /^[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*(?::?-+:?[ \t]*)?\r?$/m;

/** Unknown fields are ignored, so a known one in another spelling would be lost without a word. */
function refuseMisspelt(record: object, where: string): void {
  const plain = (name: string): string => name.toLowerCase().replaceAll(/[^a-z]/g, "");
  const given = Object.keys(record);
  const missing = Object.keys(fields).filter((field) => !given.includes(field));
  for (const name of given) {
    if (name in fields) continue;
    // One letter in five: "answers" is answer, "question_id" is not question.
    const meant = missing.find((field) => editDistance(plain(name), plain(field)) <= field.length / 5);
    if (meant !== undefined) throw invalid(where, `${name}: unknown field; did you mean ${meant}?`);
  }
}

function invalid(where: string, problem: string): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", `${where}: ${problem}`, { op: "readTasks" });
}

/** The line that `parseTask` reads back to an equal task; a gold table in CSV has no such line. */
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
          evaluation: task.evaluation ?? { required: task.requiredColumns },
        },
  );
}
