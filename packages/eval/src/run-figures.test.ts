import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { evaluate } from "./evaluate.ts";
import { runFigures } from "./run-figures.ts";
import { sweep } from "./sweep.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "figures-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function writeRun(name: string, score: number): Promise<string> {
  const run = (value: number) =>
    evaluate({
      tasks: [tableTask("a"), tableTask("b")],
      samples: 2,
      concurrency: 1,
      runEpisode: async (task, sample, seed) => episodeOf(task, sample, seed),
      score: async () => tableReward(value),
    });
  const folder = join(directory, name);
  await mkdir(join(folder, "eval"), { recursive: true });
  await writeFile(join(folder, "eval/mas.json"), JSON.stringify(await run(score)));
  const curve = await sweep({
    parameter: "maxSubagentsPerCall",
    values: [1, 10],
    evaluate: (value) => run(score * value * 0.1),
  });
  await writeFile(join(folder, "eval/mas-maxSubagentsPerCall.sweep.json"), JSON.stringify(curve));
  return folder;
}

test("puts the curves and the scores of all runs together", async () => {
  const figures = await runFigures([await writeRun("base", 0.2), await writeRun("trained", 0.8)]);
  expect(figures.map(({ name }) => name)).toEqual(["maxSubagentsPerCall", "scores"]);
  const [width, scores] = figures;
  expect(width?.svg.match(/<polyline/g)).toHaveLength(2);
  expect(width?.table).toMatch(/\| trained mas \| 10 \| 0\.800 /);
  expect(scores?.svg).toContain(">trained<");
  expect(scores?.table.split("\n")).toHaveLength(5);
  expect(scores?.table).toMatch(/\| base \| 0\.200 \(0\.200–0\.200\)/);
});

test("a run without an evaluation is named", async () => {
  await mkdir(join(directory, "none"));
  await expect(runFigures([join(directory, "none")])).rejects.toThrow(/none: no finished evaluation/);
});
