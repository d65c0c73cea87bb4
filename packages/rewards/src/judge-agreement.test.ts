// Two judges beside each other: the counts, kappa against a hand-made table, and a second judge that fails.
import type { Judge } from "@wideseek/spec";
import { describe, expect, test } from "vitest";
import { RuleJudge } from "./judge.ts";
import { AgreementJudge } from "./judge-agreement.ts";

/** Says right where the response contains "b"; matches every name to the first reference. */
const other: Judge = {
  name: "other",
  align: async (predicted, reference) => new Map(predicted.map((text) => [text, reference[0] ?? ""])),
  gradePairs: async (pairs) => pairs.map(({ response }) => (response.includes("b") ? 1 : 0)),
  gradeAnswer: async (_question, _answers, response) => (response.includes("b") ? 1 : 0),
};

describe("agreement", () => {
  test("kappa of a table made by hand", async () => {
    // 20 both right, 5 only first, 10 only second, 15 both wrong: kappa 0.4 (the textbook's example).
    const judge = new AgreementJudge({ first: new RuleJudge(), second: other });
    const pairs = [
      ...Array.from({ length: 20 }, (_, i) => ({ response: `AB${i}b`, target: `ab${i}B` })),
      ...Array.from({ length: 5 }, (_, i) => ({ response: `A${i}`, target: `a${i}` })),
      ...Array.from({ length: 10 }, (_, i) => ({ response: `b${i}`, target: `x${i}` })),
      ...Array.from({ length: 15 }, (_, i) => ({ response: `c${i}`, target: `x${i}` })),
      { response: "equal", target: "equal" },
    ];
    const grades = await judge.gradePairs(pairs, "c");
    expect(grades).toEqual(await new RuleJudge().gradePairs(pairs));
    expect(judge.result().cell).toMatchObject({
      numDecisions: 50,
      bothRight: 20,
      onlyFirstRight: 5,
      onlySecondRight: 10,
      bothWrong: 15,
      agreement: 0.7,
      unjudged: 0,
    });
    expect(judge.result().cell.kappa).toBeCloseTo(0.4, 12);
    expect(judge.examples()).toHaveLength(15);
    expect(judge.examples()[0]).toEqual({
      kind: "cell",
      response: "A0",
      target: "a0",
      context: "c",
      firstSaysRight: true,
    });
    expect(judge.result().answer).toMatchObject({ numDecisions: 0, agreement: null, kappa: null });
  });

  test("names with another counterpart disagree; equal ones are not counted", async () => {
    const judge = new AgreementJudge({ first: new RuleJudge(), second: other });
    const map = await judge.align(["ROME", "OSLO", "Bern", "x"], ["Rome", "Oslo", "Bern"]);
    expect(map.get("OSLO")).toBe("Oslo");
    expect(judge.result().name).toMatchObject({
      numDecisions: 3,
      bothRight: 1,
      onlyFirstRight: 1,
      onlySecondRight: 1,
      otherMatches: 1,
    });
  });

  test("judges that always say the same have no kappa", async () => {
    const judge = new AgreementJudge({ first: new RuleJudge(), second: new RuleJudge() });
    expect(await judge.gradeAnswer("q", ["Ann"], "ANN")).toBe(1);
    expect(await judge.gradeAnswer("q", ["Ann"], "Ann")).toBe(1);
    expect(judge.result().answer).toMatchObject({ numDecisions: 1, agreement: 1, kappa: null });
  });

  test("what the second judge cannot judge is counted and changes nothing", async () => {
    const down = (): never => {
      throw new Error("no server");
    };
    const second: Judge = { name: "down", align: down, gradePairs: down, gradeAnswer: down };
    const judge = new AgreementJudge({ first: new RuleJudge(), second });
    expect(await judge.gradePairs([{ response: "A", target: "a" }], "c")).toEqual([1]);
    expect((await judge.align(["A"], ["a"])).get("A")).toBe("a");
    expect(judge.result().cell).toMatchObject({ numDecisions: 0, unjudged: 1 });
    expect(judge.errors).toEqual(["no server", "no server"]);
  });
});
