import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compareRuns, readComparable } from "./compare.ts";
import { type EvaluationReport, evaluate } from "./evaluate.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "compare-"));
});
afterEach(() => rm(directory, { recursive: true }));

function report(scores: Record<string, number[]>, samples = 2): Promise<EvaluationReport> {
  return evaluate({
    tasks: Object.keys(scores).map(tableTask),
    samples,
    concurrency: 1,
    runEpisode: async (task, sample, seed) => episodeOf(task, sample, seed),
    // A score below 0 stands for an episode that was not judged.
    score: async ({ task, sample }) => {
      const score = scores[task.instanceId]?.[sample] ?? 0;
      return tableReward(Math.max(0, score), score >= 0);
    },
  });
}

async function write(run: string, name: string, scores: Record<string, number[]>): Promise<string> {
  await mkdir(join(directory, run, "eval"), { recursive: true });
  await writeFile(join(directory, run, "eval", `${name}.json`), JSON.stringify(await report(scores)));
  return join(directory, run);
}

describe("compareRuns", () => {
  test("pairs tasks by id and leaves out what only one run has or could judge", async () => {
    const { scores, numUnpaired, baseline } = compareRuns([
      { name: "old", report: await report({ a: [0, 0.5], b: [1, 1], c: [0.2, 0.2], d: [1, 1] }) },
      { name: "new", report: await report({ b: [1, 0.5], a: [1, 0.5], c: [-1, -1], e: [1, 1] }) },
    ]);
    expect({ baseline, numUnpaired }).toEqual({ baseline: "old", numUnpaired: { new: 2 } });
    const score = (measure: string, statistic: string) =>
      scores.find((each) => each.measure === measure && each.statistic === statistic);
    expect(score("itemF1", "avg")).toMatchObject({
      run: "new",
      baseline: 0.625,
      value: 0.75,
      numTasks: 2,
      exact: true,
    });
    expect(score("itemF1", "avg")?.difference.mean).toBeCloseTo(0.125, 12);
    expect(score("itemF1", "max")).toMatchObject({ baseline: 0.75, value: 1 });
    // +0.5 and -0.25: all four flips are at least as far from 0 as 0.25.
    expect(score("itemF1", "avg")).toMatchObject({ pValue: 1, adjustedPValue: 1 });
  });

  test("adjusts for several runs, and never compares the best of 2 with the best of 3", async () => {
    const ids = Array.from({ length: 8 }, (_, index) => `t${index}`);
    const all = (score: number): Record<string, number[]> =>
      Object.fromEntries(ids.map((id) => [id, [score, score, score]]));
    const { scores } = compareRuns([
      { name: "base", report: await report(all(0.2)) },
      { name: "better", report: await report(all(0.9)) },
      { name: "longer", report: await report(all(0.4), 3) },
    ]);
    const avg = scores.filter(({ measure, statistic }) => measure === "itemF1" && statistic === "avg");
    expect(avg.map(({ run, pValue, adjustedPValue }) => [run, pValue, adjustedPValue])).toEqual([
      ["better", 2 / 256, 4 / 256],
      ["longer", 2 / 256, 4 / 256],
    ]);
    expect(scores.filter(({ statistic }) => statistic !== "avg").map(({ run }) => run)).not.toContain("longer");
  });

  test("refuses one run, two of one name, and runs without a common task", async () => {
    const a = { name: "a", report: await report({ x: [1, 1] }) };
    const b = { name: "b", report: await report({ y: [1, 1] }) };
    expect(() => compareRuns([a])).toThrow(/at least two/);
    expect(() => compareRuns([a, a])).toThrow(/two runs are called a/);
    expect(() => compareRuns([a, b])).toThrow(/a and b have no judged task in common/);
  });
});

describe("readComparable", () => {
  test("finds what all runs have", async () => {
    const first = await write("one", "mas", { a: [1, 1] });
    await write("one", "sa", { a: [0, 0] });
    const second = await write("two", "mas", { a: [0, 1] });
    await writeFile(join(second, "eval", "mas-maxTurns.sweep.json"), "{}");
    const [found, ...others] = await readComparable([first, second]);
    expect(others).toEqual([]);
    expect(found?.evaluation).toBe("mas");
    expect(found?.runs.map(({ name }) => name)).toEqual(["one", "two"]);
  });

  test("compares two evaluations of one run by their files", async () => {
    const run = await write("one", "mas", { a: [1, 1] });
    await write("one", "sa", { a: [0, 0] });
    const [found] = await readComparable([join(run, "eval/sa.json"), join(run, "eval/mas.json")]);
    expect(found?.runs.map(({ name }) => name)).toEqual(["one/sa", "one/mas"]);
    expect(found && compareRuns(found.runs).scores[0]?.difference.mean).toBe(1);
  });

  test("says what is missing", async () => {
    const run = await write("one", "mas", { a: [1, 1] });
    await write("one", "before", { a: [1, 1] });
    const other = await write("two", "sa", { a: [1, 1] });
    await expect(readComparable([run, other])).rejects.toThrow(/one has .*mas.*; .*two has sa; name the reports/);
    await mkdir(join(directory, "none"));
    await expect(readComparable([run, join(directory, "none")])).rejects.toThrow(/none: no finished evaluation/);
    await expect(readComparable([run, join(directory, "lost")])).rejects.toMatchObject({ code: "WS_IO" });
    await writeFile(join(directory, "two/eval/sa.json"), "[]");
    await expect(readComparable([join(directory, "two"), run])).rejects.toThrow(/name the reports|not a report/);
    await expect(
      readComparable([join(directory, "two/eval/sa.json"), join(run, "eval/mas.json")]),
    ).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
    });
  });
});
