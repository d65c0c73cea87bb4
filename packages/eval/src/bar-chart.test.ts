import { expect, test } from "vitest";
import { barChart } from "./bar-chart.ts";

test("draws a bar and an interval for every finite value, and escapes names", () => {
  const svg = barChart({
    title: "scores of <a>",
    yLabel: "score",
    groups: [
      {
        name: "item F1",
        bars: [
          { label: "one", value: 0.5, low: 0.4, high: 0.6 },
          { label: "two", value: 0 },
        ],
      },
      {
        name: "row F1",
        bars: [
          { label: "one", value: Number.NaN },
          { label: "two", value: 0.25 },
        ],
      },
    ],
  });
  expect(svg).toContain("scores of &lt;a&gt;");
  expect(svg.match(/<title>/g)).toHaveLength(3);
  expect(svg.match(/stroke="#222"/g)).toHaveLength(1);
  expect(svg).not.toContain("NaN");
  // 0.5 of an axis that ends at 0.6.
  const heights = [...svg.matchAll(/width="30" height="([\d.]+)"/g)].map((match) => Number(match[1]));
  expect(heights[1]).toBe(0);
  expect((heights[0] ?? 0) / (heights[2] ?? 1)).toBeCloseTo(2, 1);
});

test("an empty chart is still one", () => {
  expect(
    barChart({ title: "t", yLabel: "y", groups: [{ name: "g", bars: [{ label: "a", value: 31.25 }] }], digits: 1 }),
  ).toContain(">31.3<");
  expect(barChart({ title: "t", yLabel: "y", groups: [] })).toMatch(/^<svg[\s\S]*<\/svg>$/);
});
