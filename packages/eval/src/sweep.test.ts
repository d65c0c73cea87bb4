import { expect, test } from "vitest";
import { evaluate } from "./evaluate.ts";
import { sweep, sweepChart, sweepTable } from "./sweep.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

const run = (value: number) =>
  evaluate({
    tasks: [tableTask("a"), tableTask("b")],
    samples: 2,
    concurrency: 1,
    runEpisode: async (task, sample, seed) => episodeOf(task, sample, seed),
    score: async () => tableReward(value / 10),
  });

test("evaluates every value in order and draws the curve", async () => {
  const report = await sweep({ parameter: "maxSubagents", values: [1, 2, 4, 8], evaluate: run });
  expect(report.points.map(({ value, report }) => [value, report.measures.itemF1?.avg.mean])).toEqual([
    [1, 0.1],
    [2, 0.2],
    [4, 0.4],
    [8, 0.8],
  ]);
  const svg = sweepChart([{ name: "before", sweep: report }]);
  expect(svg).toContain("item F1 avg@2 by subagents at most");
  expect(svg.match(/<circle/g)).toHaveLength(4);
  const lines = sweepTable([{ name: "before", sweep: report }]).split("\n");
  expect(lines[0]).toContain("| subagents at most | item F1 avg@2 |");
  expect(lines[2]).toMatch(/^\| before \| 1 \| 0\.100 \(0\.100–0\.100\) .* \| 2 \|$/);
});

test.each([[[]], [[1, 1]], [[0]], [[1.5]]])("refuses the values %j", async (values) => {
  await expect(sweep({ parameter: "maxTurns", values, evaluate: run })).rejects.toMatchObject({
    code: "WS_INVALID_ARGUMENT",
  });
});

test("a chart needs one parameter", async () => {
  const subagents = await sweep({ parameter: "maxSubagents", values: [1], evaluate: run });
  const turns = await sweep({ parameter: "maxTurns", values: [1], evaluate: run });
  expect(() =>
    sweepChart([
      { name: "a", sweep: subagents },
      { name: "b", sweep: turns },
    ]),
  ).toThrow(/same parameter/);
  expect(() => sweepChart([])).toThrow(/at least one/);
});
