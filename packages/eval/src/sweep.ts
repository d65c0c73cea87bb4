// Evaluations over one limit (subagents, turns) and the curve they make.
import { WideSeekError } from "@wideseek/spec";
import type { EvaluationReport } from "./evaluate.ts";
import { markdownTable } from "./markdown.ts";
import { fraction, measureTitle } from "./measure-names.ts";
import type { AtK, Measure } from "./metrics.ts";
import { type ChartSeries, lineChart } from "./plot.ts";

export type SweepParameter = "maxSubagents" | "maxSubagentsPerCall" | "maxTurns";

/** A report without its tasks: a sweep may have twenty points of thousands of tasks. */
export type SweepPointReport = Omit<EvaluationReport, "tasks">;

export interface SweepOptions {
  parameter: SweepParameter;
  /** In the order to run, e.g. 1, 2, 4, 8. */
  values: readonly number[];
  /** One evaluation with the parameter set to `value`; the same tasks, samples and seed for every value. */
  evaluate(value: number): Promise<EvaluationReport>;
}

export interface SweepPoint {
  value: number;
  report: SweepPointReport;
}

export interface SweepReport {
  parameter: SweepParameter;
  points: SweepPoint[];
}

/** One value after the other: an evaluation already fills the engine's batch. @throws WS_INVALID_ARGUMENT */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
  const distinct = new Set(options.values);
  const bad = options.values.find((value) => !Number.isInteger(value) || value < 1);
  if (options.values.length === 0 || distinct.size < options.values.length || bad !== undefined) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `sweep: values ${JSON.stringify(options.values)} of ${options.parameter}; give distinct integers of at least 1`,
      { op: "sweep" },
    );
  }
  const points: SweepPoint[] = [];
  for (const value of options.values) {
    const { tasks: _, ...report } = await options.evaluate(value);
    points.push({ value, report });
  }
  return { parameter: options.parameter, points };
}

const axisLabels: Record<SweepParameter, string> = {
  maxSubagents: "subagents at most",
  maxSubagentsPerCall: "subagents per turn of the lead at most",
  maxTurns: "turns at most",
};

function sharedParameter(curves: readonly SweepCurve[]): SweepParameter {
  const parameter = curves[0]?.sweep.parameter;
  if (parameter !== undefined && curves.every((curve) => curve.sweep.parameter === parameter)) return parameter;
  throw new WideSeekError("WS_INVALID_ARGUMENT", "sweep: give at least one curve, all over the same parameter", {
    op: "sweepChart",
  });
}

export interface SweepCurve {
  name: string;
  sweep: SweepReport;
}

/** Curves of one measure, e.g. before and after training, with their confidence bands. @throws WS_INVALID_ARGUMENT */
export function sweepChart(
  curves: readonly SweepCurve[],
  measure: Measure = "itemF1",
  statistic: keyof AtK = "avg",
): string {
  const parameter = sharedParameter(curves);
  const series = curves.map((curve): ChartSeries => {
    const points = curve.sweep.points.flatMap(({ value, report }) => {
      const estimate = report.measures[measure]?.[statistic];
      return estimate ? [{ x: value, y: estimate.mean, low: estimate.low, high: estimate.high }] : [];
    });
    return { name: curve.name, points: points.sort((a, b) => a.x - b.x) };
  });
  const samples = curves[0]?.sweep.points[0]?.report.samples ?? 0;
  return lineChart({
    title: `${measureTitle(measure, statistic, samples)} by ${axisLabels[parameter]}`,
    xLabel: axisLabels[parameter],
    yLabel: measureTitle(measure, statistic, samples),
    xScale: "log2",
    yRange: [0, 1],
    series,
  });
}

/** In the order of the published tables. */
const columns: readonly (readonly [Measure, keyof AtK])[] = [
  ["itemF1", "avg"],
  ["itemF1", "max"],
  ["rowF1", "avg"],
  ["success", "avg"],
  ["success", "pass"],
  ["qaScore", "avg"],
  ["qaExactMatch", "avg"],
];

/** The curves as a Markdown table with intervals; measures that no point has are left out. @throws WS_INVALID_ARGUMENT */
export function sweepTable(curves: readonly SweepCurve[]): string {
  const parameter = sharedParameter(curves);
  const points = curves.flatMap(({ name, sweep: { points } }) => points.map((point) => ({ name, ...point })));
  const shown = columns.filter(([measure, statistic]) =>
    points.some(({ report }) => Number.isFinite(report.measures[measure]?.[statistic].mean ?? Number.NaN)),
  );
  const samples = points[0]?.report.samples ?? 0;
  const head = [
    "run",
    axisLabels[parameter],
    ...shown.map(([measure, statistic]) => measureTitle(measure, statistic, samples)),
    "questions",
  ];
  const lines = points.map(({ name, value, report }) => [
    name,
    String(value),
    ...shown.map(([measure, statistic]) => {
      const estimate = report.measures[measure]?.[statistic];
      return estimate ? `${fraction(estimate.mean)} (${fraction(estimate.low)}–${fraction(estimate.high)})` : "–";
    }),
    String(report.numTasks),
  ]);
  return markdownTable([head, ...lines]);
}
