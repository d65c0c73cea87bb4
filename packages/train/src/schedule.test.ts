import { describe, expect, it } from "vitest";
import { learningRateAt } from "./schedule.ts";

const settings = { learningRate: 2, warmupSteps: 4, totalSteps: 104, minLearningRate: 0.5 };

describe("learningRateAt", () => {
  it("rises linearly from 0 over the warmup", () => {
    const rates = [1, 2, 3, 4, 5].map((step) => learningRateAt(step, { ...settings, schedule: "constant" }));
    expect(rates).toEqual([0.5, 1, 1.5, 2, 2]);
  });

  it("falls from the peak to the minimum just after the last step, half of the way in the middle", () => {
    for (const schedule of ["linear", "cosine"] as const) {
      expect(learningRateAt(5, { ...settings, schedule })).toBe(2);
      expect(learningRateAt(55, { ...settings, schedule })).toBeCloseTo(1.25, 12);
      expect(learningRateAt(105, { ...settings, schedule })).toBeCloseTo(0.5, 12);
    }
  });
});
