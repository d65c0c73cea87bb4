import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { estimateMean } from "./bootstrap.ts";
import { aggregateMeasures, atK, macroAtK, macroMeasures } from "./metrics.ts";
import { tableReward } from "./testing.ts";

describe("atK", () => {
  test("averages within a task first, then over tasks (WideSearch avg_n, max_n)", () => {
    const { avg, max, min, pass } = atK([[0, 0.5, 1], [0.25], []]);
    expect(min.mean).toBeCloseTo((0 + 0.25) / 2, 12);
    expect(avg.mean).toBeCloseTo((0.5 + 0.25) / 2, 12);
    expect(max.mean).toBeCloseTo((1 + 0.25) / 2, 12);
    expect(pass.mean).toBe(0.5);
    expect(avg.numTasks).toBe(2);
  });

  test("avg <= max, and the interval contains the mean of equal tasks", () => {
    const scores = fc.array(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(scores, (tasks) => {
        const { avg, max, pass } = atK(tasks, { numResamples: 50, confidence: 0.9, seed: 3 });
        expect(avg.mean).toBeLessThanOrEqual(max.mean + 1e-12);
        expect(pass.mean).toBeLessThanOrEqual(max.mean + 1e-12);
        for (const estimate of [avg, max, pass]) expect(estimate.low).toBeLessThanOrEqual(estimate.high);
      }),
      { numRuns: 50 },
    );
  });
});

describe("estimateMean", () => {
  test("nothing measured is NaN, not 0", () => {
    expect(estimateMean([])).toEqual({ mean: Number.NaN, low: Number.NaN, high: Number.NaN, numTasks: 0 });
  });

  test("the interval of a coin is that of the normal approximation, and reproducible", () => {
    const values = Array.from({ length: 100 }, (_, index) => index % 2);
    const { mean, low, high } = estimateMean(values);
    expect(mean).toBe(0.5);
    // 0.5 +- 1.96 * sqrt(0.25 / 100)
    expect(low).toBeCloseTo(0.402, 1);
    expect(high).toBeCloseTo(0.598, 1);
    expect(high - low).toBeGreaterThan(0.15);
    expect(estimateMean(values)).toEqual(estimateMean(values));
  });

  test("equal values have an interval of width 0", () => {
    const { mean, low, high } = estimateMean([0.3, 0.3, 0.3]);
    expect([low, high]).toEqual([mean, mean].map((value) => expect.closeTo(value, 12)));
  });
});

describe("aggregateMeasures", () => {
  test("skips unjudged samples and measures of another kind", () => {
    const measures = aggregateMeasures([
      { kind: "table", rewards: [tableReward(1), tableReward(0, false)] },
      { kind: "table", rewards: [tableReward(0.5), tableReward(0)] },
    ]);
    expect(measures.itemF1?.avg.mean).toBeCloseTo((1 + 0.25) / 2, 12);
    expect(measures.rowF1?.max.mean).toBeCloseTo((0.5 + 0.25) / 2, 12);
    expect(measures.success?.pass.mean).toBe(0.5);
    expect(measures.qaScore).toBeUndefined();
  });

  test("what needs no judge is known of all samples, the rest has bounds", () => {
    const reward = (judged: boolean, score: number, exactMatch: number) => {
      const { table: _, ...terms } = tableReward(score, judged);
      return { ...terms, qa: { exactMatch, tokenF1: exactMatch } };
    };
    const measures = aggregateMeasures([
      { kind: "qa", rewards: [reward(true, 1, 1)] },
      { kind: "qa", rewards: [reward(false, 0, 0), reward(true, 0, 0)] },
      { kind: "qa", rewards: [reward(false, 0, 0)] },
      { kind: "table", rewards: [tableReward(0.5)] },
    ]);
    expect(measures.qaExactMatch?.avg).toMatchObject({ mean: 1 / 3, numTasks: 3 });
    expect(measures.qaExactMatch?.avg.bounds).toBeUndefined();
    expect(measures.qaScore?.avg).toMatchObject({ mean: 0.5, numTasks: 2, bounds: { low: 1 / 3, high: 2.5 / 3 } });
    expect(measures.qaScore?.pass.bounds).toEqual({ low: 1 / 3, high: 1 });
    expect(measures.itemF1?.avg.bounds).toBeUndefined();
    const macro = macroMeasures([
      [{ kind: "qa", rewards: [reward(true, 1, 1)] }],
      [{ kind: "qa", rewards: [reward(false, 0, 0)] }],
    ]);
    expect(macro.qaScore?.avg).toMatchObject({ mean: 1, bounds: { low: 0.5, high: 1 } });
  });

  test("an answer without a table scored 0 on every table measure", () => {
    const { table: _, ...noTable } = tableReward(0);
    const measures = aggregateMeasures([{ kind: "table", rewards: [noTable, tableReward(1)] }]);
    expect(measures.itemF1?.avg.mean).toBe(0.5);
  });
});

describe("macro averages", () => {
  test("count every set the same, however many tasks it has", () => {
    const large = Array.from({ length: 100 }, () => [1]);
    const { avg, pass } = macroAtK([large, [[0], [0.5]], []]);
    expect(avg.mean).toBeCloseTo((1 + 0.25) / 2, 12);
    expect(pass.mean).toBe(0.5);
    expect(avg.numTasks).toBe(102);
    expect(avg.low).toBeLessThan(avg.mean);
    expect(macroAtK([large, large]).avg).toMatchObject({ mean: 1, low: 1, high: 1 });
  });

  test("have the measures of the sets only", () => {
    const measures = macroMeasures([[{ kind: "table", rewards: [tableReward(1), tableReward(0, false)] }]]);
    expect(measures.itemF1?.avg.mean).toBe(1);
    expect(measures.qaScore).toBeUndefined();
  });
});
