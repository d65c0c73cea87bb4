// Questions with their gold answers. Owns the shape; `data` reads and writes files.

export type Language = "en" | "zh";

interface TaskBase {
  instanceId: string;
  question: string;
  language: Language;
}

/** "A table of all X with columns A, B, C". */
export interface TableTask extends TaskBase {
  kind: "table";
  /** Gold table as Markdown (with or without a fence). */
  answer: string;
  /** Columns that identify a row. */
  uniqueColumns: readonly string[];
  /** Columns that must be answered; empty = all gold columns. */
  requiredColumns: readonly string[];
}

/** A single-fact question. */
export interface QaTask extends TaskBase {
  kind: "qa";
  /** Any of these is right. */
  answers: readonly string[];
}

export type Task = TableTask | QaTask;
