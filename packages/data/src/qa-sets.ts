// The seven question-answering sets of the paper as tasks. Owns the forms in which they are published.
import { invalidInput, type QaTask, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { jsonValues } from "./json-lines.ts";

export interface ReadQaSetOptions {
  dataset: string;
  /** JSONL, or a .json list. */
  file: string;
  /** Questions taken from the beginning; left out, all. */
  limit?: number | undefined;
}

const id = z.union([z.string(), z.number()]);
const texts = z.union([z.string().transform((text) => [text]), z.array(z.string()).min(1)]);
/**
 * FlashRAG and Search-R1: id, question, golden_answers. ASearcher, NQ-open, R1-Searcher, ReAct: question, answer.
 * AgentFlow: query, answer, pid; its `question` may carry an instruction at the end, `query` too where both are there.
 */
const recordSchema = z
  .looseObject({
    question: z.string().min(1).optional(),
    query: z.string().min(1).optional(),
    golden_answers: texts.optional(),
    answer: texts.optional(),
    answers: texts.optional(),
    id: id.optional(),
    qid: id.optional(),
    idx: id.optional(),
    pid: id.optional(),
  })
  .refine(({ question, query }) => (question ?? query) !== undefined, { path: ["question"], message: "missing" })
  .refine((record) => (record.golden_answers ?? record.answer ?? record.answers) !== undefined, {
    path: ["answer"],
    message: "missing; golden_answers, answer or answers must be there",
  });

/** Ends some published copies of the questions; our prompts say how to answer. */
const appendedInstruction = /\s*When ready, output the final answer enclosed in <answer>[\s\S]*$/;

/**
 * Reads one set. Ids are "dataset/id", so that several sets fit into one evaluation.
 * @throws WS_IO, WS_INVALID_ARGUMENT naming file and line, or the file when it has no questions
 */
export async function readQaSet({ dataset, file, limit }: ReadQaSetOptions): Promise<QaTask[]> {
  const tasks: QaTask[] = [];
  const seen = new Set<string>();
  for await (const { value, where } of jsonValues(file)) {
    if (limit !== undefined && tasks.length >= limit) break;
    const parsed = recordSchema.safeParse(value);
    if (!parsed.success) throw invalidInput(where, parsed.error, value);
    const record = parsed.data;
    const instanceId = `${dataset}/${record.id ?? record.qid ?? record.idx ?? record.pid ?? tasks.length}`;
    if (seen.has(instanceId)) {
      throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: id ${instanceId} is there twice`, { op: "readQaSet" });
    }
    seen.add(instanceId);
    tasks.push({
      kind: "qa",
      instanceId,
      dataset,
      question: (record.question ?? record.query ?? "").replace(appendedInstruction, ""),
      language: "en",
      answers: record.golden_answers ?? record.answer ?? record.answers ?? [],
    });
  }
  if (tasks.length > 0) return tasks;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${file}: no questions; a set needs at least one`, {
    op: "readQaSet",
  });
}
