// Questions with their gold answers. Owns the shape; `data` reads and writes files.
import type { TableEvaluation } from "./table-evaluation.ts";

export type Language = "en" | "zh";

/** The question-answering sets of the published tables, in their order. */
export const qaSetNames = ["nq", "triviaqa", "popqa", "2wiki", "hotpotqa", "bamboogle", "musique"] as const;
export type QaSetName = (typeof qaSetNames)[number];

interface TaskBase {
  instanceId: string;
  question: string;
  language: Language;
  /** Benchmark set of the question, e.g. "nq"; scores are also given for each set. */
  dataset?: string | undefined;
}

/** "A table of all X with columns A, B, C". */
export interface TableTask extends TaskBase {
  kind: "table";
  /** Gold table as `answerFormat` says; Markdown with or without a fence. */
  answer: string;
  /** Default "markdown". */
  answerFormat?: "markdown" | "csv" | undefined;
  /** Columns that identify a row. */
  uniqueColumns: readonly string[];
  /** Columns that must be answered; empty = all gold columns. */
  requiredColumns: readonly string[];
  /** The benchmark's own scoring, where the task states it. Training never uses it. */
  evaluation?: TableEvaluation | undefined;
}

/** A single-fact question. */
export interface QaTask extends TaskBase {
  kind: "qa";
  /** Any of these is right. */
  answers: readonly string[];
}

export type Task = TableTask | QaTask;
