import { expect, test } from "vitest";
import { alternate, median, percentile, ratios } from "./measure.ts";

test("median and percentile", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow(RangeError);
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  expect(percentile(values, 0.99)).toBe(99);
  expect(percentile([7], 0.99)).toBe(7);
});

test("variants are warmed up and then alternate", async () => {
  const calls: string[] = [];
  const variant = (name: string) => async () => calls.push(name);
  const results = await alternate({ a: variant("a"), b: variant("b") }, 2);
  expect(calls.join("")).toBe("ababba");
  expect(results).toEqual({ a: [3, 6], b: [4, 5] });
  expect(ratios([2, 9], [1, 3])).toEqual([2, 3]);
});
