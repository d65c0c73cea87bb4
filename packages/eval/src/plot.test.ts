import { describe, expect, test } from "vitest";
import { lineChart, ticks } from "./plot.ts";

describe("ticks", () => {
  test.each([
    [0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [0.13, 0.87, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [0, 200, 8, [0, 50, 100, 150, 200]],
    [3, 3, 2, [2.5, 3, 3.5]],
    [-1, 1, 4, [-1, -0.5, 0, 0.5, 1]],
  ])("of %d..%d", (low, high, target, expected) => {
    expect(ticks(low, high, target)).toEqual(expected);
  });
});

describe("lineChart", () => {
  const points = [1, 2, 4, 8].map((x) => ({ x, y: x / 10, low: x / 10 - 0.05, high: x / 10 + 0.05 }));

  test("draws axes, labels, band, points and a legend", () => {
    const svg = lineChart({
      title: "F1",
      xLabel: "subagents",
      yLabel: "item F1",
      xScale: "log2",
      yRange: [0, 1],
      series: [
        { name: "before", points },
        { name: "after", points },
      ],
    });
    expect(svg.match(/<polyline/g)).toHaveLength(2);
    expect(svg.match(/<polygon/g)).toHaveLength(2);
    expect(svg.match(/<circle/g)).toHaveLength(8);
    for (const text of ["subagents", "item F1", ">before<", ">after<", ">8<", ">0.2<"]) expect(svg).toContain(text);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("places points at equal distances on a log axis, higher values higher up", () => {
    const svg = lineChart({ title: "", xLabel: "", yLabel: "", xScale: "log2", series: [{ name: "s", points }] });
    const centers = [...svg.matchAll(/cx="([\d.]+)" cy="([\d.]+)"/g)].map((match) => [
      Number(match[1]),
      Number(match[2]),
    ]);
    const [first, second, third] = centers as [number[], number[], number[]];
    expect((second[0] ?? 0) - (first[0] ?? 0)).toBeCloseTo((third[0] ?? 0) - (second[0] ?? 0), 0);
    expect(second[1]).toBeLessThan(first[1] ?? 0);
  });

  test("leaves a gap where a value is not finite, and says so when there is none", () => {
    const gap = [
      { x: 0, y: 1 },
      { x: 1, y: Number.NaN },
      { x: 2, y: 3 },
    ];
    const svg = lineChart({ title: "", xLabel: "", yLabel: "", series: [{ name: "s", points: gap }] });
    expect(svg.match(/<polyline/g)).toHaveLength(2);
    expect(svg).not.toContain("NaN");
    expect(lineChart({ title: "", xLabel: "", yLabel: "", series: [] })).toContain("no data");
  });

  test("escapes every text", () => {
    const evil = `<script>"'&`;
    const svg = lineChart({
      title: evil,
      xLabel: evil,
      yLabel: evil,
      series: [
        { name: evil, points },
        { name: "b", points },
      ],
    });
    expect(svg).not.toContain("<script>");
  });
});
