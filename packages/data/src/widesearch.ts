// The WideSearch benchmark as tasks: questions with their evaluation, gold tables as CSV files. Owns no scoring.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { atBoundary, invalidInput, type TableTask, tableEvaluationSchema, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { jsonLines } from "./json-lines.ts";
import { withPlace } from "./task-place.ts";

export interface WideSearchFiles {
  /** widesearch.jsonl: instance_id, query, evaluation (an object, or JSON text), language. */
  questions: string;
  /** Folder of the gold tables, `<instance_id>.csv`. */
  gold: string;
}

export interface WideSearchTasks {
  /** In the order of the file. */
  tasks: TableTask[];
  /** Questions whose gold table is not in the folder; they cannot be scored. */
  withoutGold: string[];
}

const recordSchema = z.looseObject({
  // It becomes the name of a file.
  instance_id: z.string().regex(/^[\w.-]+$/, "must be letters, digits, '_', '-' and '.'"),
  query: z.string().min(1),
  evaluation: z.preprocess((value, context) => {
    if (typeof value !== "string") return value;
    try {
      return JSON.parse(value);
    } catch {
      context.addIssue({ code: "custom", message: "neither an object nor JSON text" });
      return z.NEVER;
    }
  }, tableEvaluationSchema),
  language: z.enum(["en", "zh"]),
});

/**
 * Reads the whole benchmark. The language of a task decides its prompts.
 * @throws WS_IO when questions or folder cannot be read, WS_INVALID_ARGUMENT naming file and line
 */
export async function readWideSearch({ questions, gold }: WideSearchFiles): Promise<WideSearchTasks> {
  if (!existsSync(gold))
    throw new WideSeekError("WS_IO", `${gold}: no such folder of gold tables`, { op: "readWideSearch" });
  const tasks: TableTask[] = [];
  const withoutGold: string[] = [];
  for await (const { value, where } of jsonLines(questions)) {
    const parsed = recordSchema.safeParse(value);
    if (!parsed.success) throw invalidInput(where, parsed.error, value);
    const { instance_id: instanceId, query: question, evaluation, language } = parsed.data;
    const file = path.join(gold, `${instanceId}.csv`);
    if (!existsSync(file)) {
      withoutGold.push(instanceId);
      continue;
    }
    const task: TableTask = {
      kind: "table",
      instanceId,
      question,
      language,
      answer: await atBoundary("WS_IO", "readWideSearch", () => readFile(file, "utf8")),
      answerFormat: "csv",
      uniqueColumns: evaluation.unique_columns,
      requiredColumns: evaluation.required,
      evaluation,
    };
    tasks.push(withPlace(task, `${where}, gold table ${file}`));
  }
  return { tasks, withoutGold };
}
