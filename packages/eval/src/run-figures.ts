// Figures and tables over several runs: curves of their sweeps, bars of their scores. Owns which are drawn, no files.
import { WideSeekError } from "@wideseek/spec";
import { barChart } from "./bar-chart.ts";
import { markdownTable } from "./markdown.ts";
import { boundsMeaning, boundsText, fraction, isShown, measureTitle } from "./measure-names.ts";
import type { AtK, Measure } from "./metrics.ts";
import { type RunDirectory, readRunDirectory } from "./run-directory.ts";
import { type SweepCurve, type SweepParameter, sweepChart, sweepTable } from "./sweep.ts";

export interface RunFigure {
  /** Without ending: "maxSubagents" or "scores". */
  name: string;
  svg: string;
  /** The same numbers as a Markdown table. */
  table: string;
}

/** In the order of the published tables. */
const shown: readonly (readonly [Measure, keyof AtK])[] = [
  ["itemF1", "avg"],
  ["itemF1", "max"],
  ["rowF1", "avg"],
  ["rowF1", "max"],
  ["success", "avg"],
  ["success", "pass"],
  ["qaScore", "avg"],
  ["qaExactMatch", "avg"],
  ["qaTokenF1", "avg"],
];

/**
 * One figure for every parameter that some run was swept over, and one of the scores of all evaluations.
 * @throws WS_IO, WS_CORRUPT_FILE, WS_INVALID_ARGUMENT when a run has no evaluation
 */
export async function runFigures(directories: readonly string[]): Promise<RunFigure[]> {
  const runs = await Promise.all(directories.map((directory) => readRunDirectory(directory, 1)));
  const empty = runs.findIndex((run) => run.evaluations.length === 0 && run.sweeps.length === 0);
  if (empty >= 0) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${directories[empty]}: no finished evaluation there`, {
      op: "plot",
    });
  }
  return [...sweepFigures(runs), ...scoreFigures(runs)];
}

function sweepFigures(runs: readonly RunDirectory[]): RunFigure[] {
  const curves = new Map<SweepParameter, SweepCurve[]>();
  for (const run of runs) {
    for (const { name, report } of run.sweeps) {
      const evaluation = name.replace(`-${report.parameter}`, "");
      const curve = { name: runs.length === 1 ? evaluation : `${run.name} ${evaluation}`, sweep: report };
      curves.set(report.parameter, [...(curves.get(report.parameter) ?? []), curve]);
    }
  }
  return [...curves].map(([parameter, list]) => {
    const measures = list[0]?.sweep.points[0]?.report.measures ?? {};
    const measure: Measure = measures.itemF1 === undefined && measures.qaScore !== undefined ? "qaScore" : "itemF1";
    return { name: parameter, svg: sweepChart(list, measure), table: sweepTable(list) };
  });
}

function scoreFigures(runs: readonly RunDirectory[]): RunFigure[] {
  const scored = runs.flatMap((run) =>
    run.evaluations.map(({ name, report }) => ({
      label: runs.length === 1 ? name : run.evaluations.length === 1 ? run.name : `${run.name} ${name}`,
      report,
    })),
  );
  if (scored.length === 0) return [];
  const samples = scored[0]?.report.samples ?? 0;
  const measured = shown.filter(([measure, statistic]) =>
    scored.some(({ report }) => isShown(report.measures[measure]?.[statistic])),
  );
  const groups = measured.map(([measure, statistic]) => ({
    name: measureTitle(measure, statistic, samples),
    bars: scored.map(({ label, report }) => {
      const estimate = report.measures[measure]?.[statistic];
      return { label, value: estimate?.mean ?? Number.NaN, low: estimate?.low, high: estimate?.high };
    }),
  }));
  const rows = scored.map(({ label, report }) => [
    label,
    ...measured.map(([measure, statistic]) => {
      const estimate = report.measures[measure]?.[statistic];
      if (!isShown(estimate)) return "–";
      const { mean, low, high, bounds } = estimate;
      const score = Number.isFinite(mean) ? `${fraction(mean)} (${fraction(low)}–${fraction(high)})` : "–";
      return bounds ? `${score} ${boundsText(bounds)}` : score;
    }),
    String(report.numTasks),
  ]);
  const head = ["run", ...groups.map(({ name }) => name), "questions"];
  const note = scored.some(({ report }) => report.numUnjudged > 0) ? `\n${boundsMeaning}\n` : "";
  const svg = barChart({ title: "Held-out scores", yLabel: "score, 95 % interval over questions", groups });
  return [{ name: "scores", svg, table: `${markdownTable([head, ...rows])}${note}` }];
}
