import type { Judge } from "@wideseek/spec";
import { describe, expect, it } from "vitest";
import { canonicalText, checkedJudge, RuleJudge } from "./judge.ts";

describe("canonicalText", () => {
  it.each([
    ["**New  York**", "new york."],
    ["１２３", "123"],
    ["1,234.50", "1234.5"],
    ["7 %", "0.07"],
    ["March 5, 2024", "2024年3月5日"],
    ["Mar 2024", "2024-03"],
    ["2024年", "2024"],
    ["[Paris](https://a.b)", "Paris"],
    ["Jean–Luc’s", "jean-luc's"],
  ])("%s = %s", (a, b) => {
    expect(canonicalText(a)).toBe(canonicalText(b));
  });

  it.each([
    ["March 2024", "2024-03-01"],
    ["12", "12%"],
    ["1.2.3", "1.23"],
    ["2020", "2021"],
    ["", "0"],
    ["Mar 5", "Mar 6"],
    ["1,23", "123"],
  ])("%s differs from %s", (a, b) => {
    expect(canonicalText(a)).not.toBe(canonicalText(b));
  });
});

describe("RuleJudge", () => {
  it("aligns verbatim first, then by meaning, and leaves out the rest", async () => {
    const map = await new RuleJudge().align(["a", "A", "A.", "z"], ["A", "a"]);
    expect([...map]).toEqual([
      ["a", "a"],
      ["A", "A"],
      ["A.", "A"],
    ]);
  });

  it("gives the same grades with a full memory", async () => {
    const pairs = ["1,000", "1000", "a", "A", "b"].map((response) => ({ response, target: "1000" }));
    expect(await new RuleJudge({ cacheSize: 1 }).gradePairs(pairs)).toEqual(await new RuleJudge().gradePairs(pairs));
  });

  it("accepts any of the answers", async () => {
    const judge = new RuleJudge();
    expect(await judge.gradeAnswer("?", ["Rome", "The Hague"], "Hague!")).toBe(1);
    expect(await judge.gradeAnswer("?", ["1,000"], "1000")).toBe(1);
    expect(await judge.gradeAnswer("?", ["Rome"], "Rome or Paris")).toBe(0);
  });
});

describe("checkedJudge", () => {
  const judge = (part: Partial<Judge>): Judge => checkedJudge({ ...ruleParts, ...part });
  const rule = new RuleJudge();
  const ruleParts: Judge = {
    name: "bad",
    align: (predicted, reference) => rule.align(predicted, reference),
    gradePairs: (pairs) => rule.gradePairs(pairs),
    gradeAnswer: (question, answers, response) => rule.gradeAnswer(question, answers, response),
  };
  const pair = { response: "a", target: "a" };

  it("names the judge in whatever went wrong", async () => {
    await expect(judge({ gradePairs: async () => [] }).gradePairs([pair], "")).rejects.toThrow(
      "judge bad: 0 grades for 1 pairs",
    );
    await expect(judge({ gradePairs: async () => [Number.NaN] }).gradePairs([pair], "")).rejects.toThrow(/grade NaN/);
    await expect(judge({ gradeAnswer: async () => 2 }).gradeAnswer("", [], "")).rejects.toMatchObject({ op: "judge" });
    const down = async (): Promise<never> => Promise.reject(new Error("down"));
    await expect(judge({ align: down }).align([], [])).rejects.toMatchObject({
      op: "judge",
      message: "judge bad: down",
    });
  });

  it("passes an abort on", async () => {
    const reason = new Error("stopped");
    const stopped = async (): Promise<never> => Promise.reject(reason);
    await expect(judge({ align: stopped }).align([], [], AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});
