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

test("names of nine measures are wrapped, and none reaches into the next", () => {
  const names = [
    "item F1 avg@4",
    "row F1 max@4",
    "success pass@4",
    "fact avg@4",
    "fact exact match avg@4",
    "fact token F1 avg@4",
  ];
  const groups = names.map((name) => ({ name, bars: [{ label: "mas", value: 0.5 }] }));
  const svg = barChart({ title: "t", yLabel: "y", groups });
  const texts = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle">([^<]+)</g)];
  const first = texts.filter(([, , y]) => y === texts[0]?.[2]);
  expect(first.map(([, , , text]) => text)).toContain("fact exact match");
  expect(texts.map(([, , , text]) => text)).toContain("avg@4");
  // 7 pixels a character are more than the font needs.
  const ends = first.map(
    ([, x, , text = ""]) => [Number(x) - 3.5 * text.length, Number(x) + 3.5 * text.length] as const,
  );
  for (const [index, [begin]] of ends.entries()) expect(begin).toBeGreaterThan(ends[index - 1]?.[1] ?? 0);
});

test("an empty chart is still one", () => {
  expect(
    barChart({ title: "t", yLabel: "y", groups: [{ name: "g", bars: [{ label: "a", value: 31.25 }] }], digits: 1 }),
  ).toContain(">31.3<");
  expect(barChart({ title: "t", yLabel: "y", groups: [] })).toMatch(/^<svg[\s\S]*<\/svg>$/);
});
