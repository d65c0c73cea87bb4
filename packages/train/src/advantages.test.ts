import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { groupAdvantages } from "./advantages.ts";

interface Golden {
  groups: number[][];
  cases: { std: "sample" | "population"; advantages: number[][] }[];
}
const golden: Golden = JSON.parse(readFileSync(new URL("../fixtures/grpo-advantages.json", import.meta.url), "utf8"));

const reward = (total: number, judged = true) => ({
  judged,
  score: total,
  formatReward: 0,
  toolReward: 0,
  lengthPenalty: 0,
  total,
  reason: "",
});

describe("groupAdvantages", () => {
  for (const { std, advantages } of golden.cases) {
    it(`equals the float64 reference with the ${std} deviation`, () => {
      golden.groups.forEach((rewards, group) => {
        const { values } = groupAdvantages(rewards, { std });
        values.forEach((value, index) => {
          expect(value).toBeCloseTo(advantages[group]?.[index] as number, 8);
        });
      });
    });
  }

  it("sums to 0 and keeps the order of rewards", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: 1, maxLength: 16 }), (rewards) => {
        const { values } = groupAdvantages(rewards);
        expect(values.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 6);
        rewards.forEach((a, i) => {
          rewards.forEach((b, j) => {
            if (a > b) expect(values[i] as number).toBeGreaterThanOrEqual(values[j] as number);
          });
        });
      }),
    );
  });

  it("flags equal rewards exactly, although their mean is rounded", () => {
    const { values, zeroVariance } = groupAdvantages([0.1, 0.1, 0.1]);
    expect(zeroVariance).toBe(true);
    expect(values).toEqual([0, 0, 0]);
  });

  it("leaves unjudged episodes out of mean and deviation", () => {
    const { values, judged } = groupAdvantages([reward(1), reward(0, false), reward(0)]);
    expect(judged).toEqual([true, false, true]);
    const alone = groupAdvantages([1, 0]).values;
    expect(values).toEqual([alone[0], 0, alone[1]]);
  });

  it("has nothing to compare when at most one episode was judged", () => {
    expect(groupAdvantages([reward(1), reward(0, false)]).zeroVariance).toBe(true);
    expect(groupAdvantages([]).zeroVariance).toBe(true);
  });

  it("refuses a reward that is not finite", () => {
    expect(() => groupAdvantages([1, Number.NaN])).toThrow(/finite/);
  });
});
