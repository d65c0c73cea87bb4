// `compare`: runs beside a first one, question by question. Owns the layout, no statistics.
import { existsSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { type Comparison, compareRuns, measureTitle, readComparable, WideSeekError } from "@wideseek/core";
import { atBoundary } from "@wideseek/core/tooling";
import { Command } from "commander";
import { textTable } from "./text-table.ts";

export function compareCommand(): Command {
  return new Command("compare")
    .description("compare evaluations with the first one on the questions that both have, with paired tests")
    .argument("<run...>", "run folders, or reports RUN/eval/NAME.json; the first is what the others are compared with")
    .option("--json <file>", "write everything as JSON too")
    .action(async (paths: string[], flags: { json?: string }) => {
      if (flags.json !== undefined) checkFile(flags.json);
      const found = await readComparable(paths);
      const comparisons = found.map(({ evaluation, runs }) => ({ evaluation, ...compareRuns(runs) }));
      for (const comparison of comparisons) console.log(formatComparison(comparison));
      if (flags.json !== undefined) {
        const text = `${JSON.stringify(comparisons, null, 2)}\n`;
        await atBoundary("WS_IO", `--json ${flags.json}`, () => writeFile(flags.json as string, text));
      }
    });
}

/** Before anything is read: the table would be printed, and the file not there. */
function checkFile(file: string): void {
  const folder = path.dirname(path.resolve(file));
  const problem = !existsSync(folder)
    ? `there is no folder ${folder}`
    : existsSync(file) && statSync(file).isDirectory()
      ? "that is a folder"
      : undefined;
  if (problem === undefined) return;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `--json ${file}: ${problem}; name a file in a folder that is there`);
}

function formatComparison(comparison: Comparison & { evaluation: string }): string {
  const { evaluation, baseline, scores, numUnpaired, numUnjudged, samples } = comparison;
  const rows = scores.map((score) => [
    measureTitle(score.measure, score.statistic, samples[score.run] ?? 0),
    score.run,
    score.baseline.toFixed(3),
    score.value.toFixed(3),
    signed(score.difference.mean),
    `${signed(score.difference.low)} .. ${signed(score.difference.high)}`,
    formatP(score.pValue),
    formatP(score.adjustedPValue),
    String(score.numTasks),
  ]);
  const head = [evaluation, "run", baseline, "run", "change", "95 % interval", "p", "p (Holm)", "questions"];
  const notes = Object.entries(numUnpaired)
    .filter(([, count]) => count > 0)
    .map(([run, count]) => `${run}: ${count} questions are not in both runs and left out`);
  const unjudged = Object.entries(numUnjudged)
    .filter(([, count]) => count > 0)
    .map(([run, count]) => `warning: ${run}: ${count} episodes not judged, which are no random part of all`);
  return [textTable([head, ...rows]), ...notes, ...unjudged].join("\n");
}

const signed = (value: number): string => `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(3)}`;
const formatP = (value: number): string => (value < 0.001 ? "<0.001" : value.toFixed(3));
