import { describe, expect, test } from "vitest";
import { holm, pairedTest } from "./paired-test.ts";

describe("pairedTest", () => {
  // Darwin's maize: heights of crossed minus self-fertilised plants in eighths of an inch. Fisher, The Design of
  // Experiments (1935), section 21, counts 863 of 32,768 flips in each tail, ties included.
  const maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];

  test("gives Fisher's exact value for Darwin's maize", () => {
    const { pValue, exact, difference } = pairedTest(maize);
    expect(exact).toBe(true);
    expect(pValue).toBe((2 * 863) / 32768);
    expect(difference.mean).toBeCloseTo(314 / 15, 12);
    expect(difference.low).toBeLessThan(314 / 15);
    expect(pairedTest(maize.map((value) => -value)).pValue).toBe(pValue);
  });

  test("draws flips for many tasks, close to the exact value and reproducible", () => {
    // Zeros change no p-value; the maize data with many of them is still exact.
    expect(pairedTest([...maize, ...Array(500).fill(0)])).toMatchObject({ exact: true, pValue: (2 * 863) / 32768 });
    // 30 differences of equal size, 21 of them positive: two-sided binomial test, 2 * P(X >= 21) = 0.0428.
    const equal = Array.from({ length: 30 }, (_, index) => (index < 21 ? 0.1 : -0.1));
    const { pValue, exact } = pairedTest(equal);
    expect(exact).toBe(false);
    expect(pValue).toBeGreaterThan(0.0428 - 0.003);
    expect(pValue).toBeLessThan(0.0428 + 0.003);
    expect(pairedTest(equal).pValue).toBe(pValue);
  });

  test("no difference is certain to be chance, no task says nothing", () => {
    expect(pairedTest([0, 0, 0]).pValue).toBe(1);
    expect(pairedTest([]).pValue).toBeNaN();
    expect(pairedTest(Array(40).fill(0.2)).pValue).toBeLessThan(1e-4);
  });
});

test("Holm's adjustment keeps order, stays within 1 and passes over tests without a value", () => {
  expect(holm([0.01, 0.02, 0.03])).toEqual([0.03, 0.04, 0.04]);
  expect(holm([0.04, 0.01, Number.NaN, 0.9])).toEqual([0.08, 0.03, Number.NaN, 0.9]);
});
