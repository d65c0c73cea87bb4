// `compare`: runs beside a first one, question by question. Owns the layout, no statistics.
import { writeFile } from "node:fs/promises";
import { type Comparison, compareRuns, measureTitle, readComparable } from "@wideseek/core";
import { Command } from "commander";
import { textTable } from "./text-table.ts";

export function compareCommand(): Command {
  return new Command("compare")
    .description("compare evaluations with the first one on the questions that both have, with paired tests")
    .argument("<run...>", "run folders, or reports RUN/eval/NAME.json; the first is what the others are compared with")
    .option("--json <file>", "write everything as JSON too")
    .action(async (paths: string[], flags: { json?: string }) => {
      const found = await readComparable(paths);
      const comparisons = found.map(({ evaluation, runs }) => ({ evaluation, ...compareRuns(runs) }));
      for (const comparison of comparisons) console.log(formatComparison(comparison));
      if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(comparisons, null, 2)}\n`);
    });
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
