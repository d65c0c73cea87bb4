// Differential cases against the official WideSearch evaluator. Owns the comparison; the cases are shared data.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import * as rewards from "../../packages/rewards/src/index.ts";
import { type Judge, type TableScore, WideSeekError } from "../../packages/spec/src/index.ts";
import { sharedData } from "../shared-data.ts";

interface Official {
  score: number;
  precision_by_row: number;
  recall_by_row: number;
  f1_by_row: number;
  precision_by_item: number;
  recall_by_item: number;
  f1_by_item: number;
}
interface TableCase {
  kind: "table";
  id: string;
  tags: string[];
  response: string | null;
  gold_csv: string;
  evaluation: rewards.WideSearchEvaluation;
  official: Official;
  must_match: boolean;
  correct: Official | null;
  alternatives: { last_fence?: Official } | null;
}
interface UnitCase {
  kind: "unit";
  id: string;
  function: string;
  args: { content?: string; response?: string; target?: string; criterion?: number | null };
  official: { value?: string; score?: number; raises?: string };
  must_match: boolean;
  correct: { value?: string; score?: number } | null;
}

const path = resolve(sharedData, "scorer-cases/widesearch-scorer-cases.jsonl");
const cases: (TableCase | UnitCase)[] = existsSync(path)
  ? readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as TableCase | UnitCase)
  : [];
const tableCases = cases.filter((entry) => entry.kind === "table");
const unitCases = cases.filter((entry) => entry.kind === "unit");

/** The judge stated with the cases in place of a language model. */
function stubForm(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[*_`]/g, "")
    .replace(/\p{White_Space}/gu, "")
    .replace(/\.$/, "");
}
const stubJudge: Judge = {
  name: "stub",
  async align(predicted, reference) {
    const map = new Map<string, string>();
    for (const text of predicted) {
      const match = reference.includes(text) ? text : reference.find((r) => stubForm(r) === stubForm(text));
      if (match !== undefined) map.set(text, match);
    }
    return map;
  },
  gradePairs: async (pairs) => pairs.map(({ response, target }) => (stubForm(response) === stubForm(target) ? 1 : 0)),
  gradeAnswer: async (_question, answers, response) =>
    answers.some((answer) => stubForm(answer) === stubForm(response)) ? 1 : 0,
};

function equals(score: TableScore, expected: Official): boolean {
  const pairs: [number, number][] = [
    [score.success, expected.score],
    [score.rowPrecision, expected.precision_by_row],
    [score.rowRecall, expected.recall_by_row],
    [score.rowF1, expected.f1_by_row],
    [score.itemPrecision, expected.precision_by_item],
    [score.itemRecall, expected.recall_by_item],
    [score.itemF1, expected.f1_by_item],
  ];
  return pairs.every(([ours, theirs]) => Math.abs(ours - theirs) <= 1e-9);
}

const accepted = (entry: TableCase, fence: rewards.FencePolicy): Official[] => {
  const lastFence = entry.alternatives?.last_fence;
  if (fence === "last" && lastFence !== undefined) return [lastFence];
  return entry.must_match ? [entry.official] : [entry.official, ...(entry.correct === null ? [] : [entry.correct])];
};

/** No value is stated for these beside the official one, which is known to be wrong. */
const isOpen = (entry: TableCase): boolean =>
  !entry.must_match && entry.correct === null && entry.alternatives === null;

describe.skipIf(cases.length === 0)("WideSearch tables", () => {
  for (const fence of ["first", "last"] as const) {
    it.each(tableCases.map((entry) => [entry.id, entry] as const))(`${fence} fence: %s`, async (_id, entry) => {
      const evaluate = (): Promise<TableScore> =>
        rewards.evaluateWideSearch(entry.response, entry.gold_csv, entry.evaluation, stubJudge, { fence });
      if (entry.tags.includes("defect:unknown_metric")) {
        await expect(evaluate()).rejects.toThrow(WideSeekError);
        return;
      }
      const score = await evaluate();
      for (const value of Object.values(score)) expect(value).toBeGreaterThanOrEqual(0);
      for (const value of Object.values(score)) expect(value).toBeLessThanOrEqual(1);
      if (isOpen(entry)) return;
      const expected = accepted(entry, fence);
      expect(expected.some((value) => equals(score, value)) || { score, expected }).toBe(true);
    });
  }
});

describe.skipIf(cases.length === 0)("WideSearch cell functions", () => {
  const onContent: Record<string, (content: string) => string> = {
    extract_number: rewards.extractNumber,
    norm_str: rewards.normStr,
    norm_date: rewards.normDate,
  };
  const onPair: Record<string, (response: string, target: string, criterion?: unknown) => number> = {
    exact_match: rewards.exactMatch,
    in_match: rewards.inMatch,
    url_match: rewards.urlMatch,
    number_near: rewards.numberNear,
    date_near: rewards.dateNear,
  };
  it.each(unitCases.map((entry) => [entry.id, entry] as const))("%s", (_id, entry) => {
    const { content, response, target, criterion } = entry.args;
    const ours =
      content !== undefined
        ? onContent[entry.function]?.(content)
        : onPair[entry.function]?.(response ?? "", target ?? "", criterion);
    expect(ours).toBeDefined();
    if (!entry.must_match && entry.correct === null) return;
    const expected = [entry.official, ...(entry.must_match || entry.correct === null ? [] : [entry.correct])];
    expect(expected.map((value) => value.value ?? value.score)).toContain(ours);
  });
});

it("runs the shared cases when they are there", (context) => {
  if (cases.length === 0) context.skip(`no cases at ${path}`);
  expect(tableCases.length).toBeGreaterThan(300);
  expect(unitCases.length).toBeGreaterThan(300);
});
