import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { answerExactMatch, normalizeAnswer, tokenF1 } from "./qa-score.ts";

describe("exact match", () => {
  it("ignores case, punctuation, articles and spaces", () => {
    expect(normalizeAnswer(" The U.S.  President, a man! ")).toBe("us president man");
    expect(answerExactMatch("the Beatles.", ["Stones", "Beatles"])).toBe(1);
    expect(answerExactMatch("《红楼梦》", ["红楼梦"])).toBe(1);
    expect(answerExactMatch("anthem", ["them"])).toBe(0);
  });
});

describe("token F1", () => {
  it.each([
    ["new york city", ["new york"], 0.8],
    ["york york", ["york"], 2 / 3],
    ["北京市", ["北京"], 0.8],
    ["Apple公司", ["apple公司"], 1],
    ["x", ["y", "x"], 1],
    ["the", ["a"], 1],
    ["", ["x"], 0],
    ["x", [], 0],
  ])("%s / %j", (response, answers, expected) => {
    expect(tokenF1(response, answers)).toBeCloseTo(expected, 12);
  });

  it("is symmetric, within [0, 1], and 1 on an exact match", () => {
    const text = fc
      .array(fc.constantFrom("a", "cat", "北", "京", "New", ".", "12"), { maxLength: 6 })
      .map((p) => p.join(" "));
    fc.assert(
      fc.property(text, text, (a, b) => {
        const value = tokenF1(a, [b]);
        expect(value).toBeCloseTo(tokenF1(b, [a]), 12);
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThanOrEqual(1);
        if (answerExactMatch(a, [b]) === 1) expect(value).toBe(1);
      }),
    );
  });
});
