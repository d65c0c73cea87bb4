// The judge that needs no model: texts mean the same when they are equal after normalisation.

import { errorMessage, type Judge, WideSeekError } from "@wideseek/spec";
import { isoDate, parseDate } from "./date.ts";
import { canonicalQuantity } from "./number.ts";
import { answerExactMatch } from "./qa-score.ts";

/**
 * What a text means to the rule judge. Compatibility forms, case, white space, Markdown marks and a final period do not
 * matter; numbers are compared as numbers (`1,234.0`, `12 %`), dates as dates of equal precision.
 */
export function canonicalText(text: string): string {
  const plain = text
    .normalize("NFKC")
    .replace(/\[([^[\]]{0,1000})\]\([^()]{0,1000}\)/g, "$1")
    .replace(/<br\s*\/?>/gi, " ")
    .replace(/[*_`~]/g, "")
    .replace(/[‘’]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/[‐‑‒–—−]/g, "-")
    .replace(/\p{White_Space}+/gu, " ")
    .replace(/[.。]\s*$/, "")
    .trim();
  const quantity = canonicalQuantity(plain);
  if (quantity !== undefined) return `number ${quantity}`;
  const date = parseDate(plain);
  if (date?.month === undefined)
    return date ? `number ${date.year}` : `text ${plain.toLowerCase().replaceAll(" ", "")}`;
  return `date ${date.day === undefined ? isoDate(date).slice(0, 7) : isoDate(date)}`;
}

/** Judges by `canonicalText`; deterministic, offline. Remembers what it normalised, at most `cacheSize` texts. */
export class RuleJudge implements Judge {
  readonly name: string = "rule";
  readonly #cacheSize: number;
  readonly #canonical: Map<string, string> = new Map();

  constructor(options: { cacheSize?: number } = {}) {
    this.#cacheSize = options.cacheSize ?? 100_000;
  }

  async align(predicted: readonly string[], reference: readonly string[]): Promise<Map<string, string>> {
    const references = new Set(reference);
    const byMeaning = new Map<string, string>();
    for (const text of reference) {
      const meaning = this.#meaning(text);
      if (!byMeaning.has(meaning)) byMeaning.set(meaning, text);
    }
    const map = new Map<string, string>();
    for (const text of predicted) {
      const match = references.has(text) ? text : byMeaning.get(this.#meaning(text));
      if (match !== undefined) map.set(text, match);
    }
    return map;
  }

  async gradePairs(pairs: readonly { response: string; target: string }[]): Promise<number[]> {
    return pairs.map(({ response, target }) => (this.#meaning(response) === this.#meaning(target) ? 1 : 0));
  }

  async gradeAnswer(_question: string, answers: readonly string[], response: string): Promise<number> {
    const meaning = this.#meaning(response);
    return answers.some((answer) => this.#meaning(answer) === meaning || answerExactMatch(response, [answer]) === 1)
      ? 1
      : 0;
  }

  #meaning(text: string): string {
    const known = this.#canonical.get(text);
    if (known !== undefined) return known;
    const meaning = canonicalText(text);
    // Starting over is enough: a group scores the same gold texts again and again, and soon refills it.
    if (this.#canonical.size >= this.#cacheSize) this.#canonical.clear();
    this.#canonical.set(text, meaning);
    return meaning;
  }
}

/** `op` of the error that a checked judge throws. */
export const judgeOp = "judge";

/**
 * A judge whose failures can be told from ours: whatever it throws, and an answer of the wrong form, becomes a
 * WideSeekError with `op` "judge". An abort passes unchanged.
 */
export function checkedJudge(judge: Judge): Judge {
  const call = async <T>(run: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
    try {
      return await run();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw failure(judge, errorMessage(error), error);
    }
  };
  return {
    name: judge.name,
    align: async (predicted, reference, signal) => await call(() => judge.align(predicted, reference, signal), signal),
    gradePairs: async (pairs, criterion, signal) => {
      const grades = await call(() => judge.gradePairs(pairs, criterion, signal), signal);
      if (grades.length !== pairs.length) {
        throw failure(judge, `${grades.length} grades for ${pairs.length} pairs`);
      }
      for (const grade of grades) checkGrade(judge, grade);
      return grades;
    },
    gradeAnswer: async (question, answers, response, signal) => {
      const grade = await call(() => judge.gradeAnswer(question, answers, response, signal), signal);
      checkGrade(judge, grade);
      return grade;
    },
  };
}

function checkGrade(judge: Judge, grade: number): void {
  if (!(grade >= 0 && grade <= 1)) throw failure(judge, `grade ${grade} is not in [0, 1]`);
}

function failure(judge: Judge, message: string, cause?: unknown): WideSeekError {
  return new WideSeekError("WS_IO", `judge ${judge.name}: ${message}`, {
    op: judgeOp,
    ...(cause === undefined ? {} : { cause }),
  });
}
