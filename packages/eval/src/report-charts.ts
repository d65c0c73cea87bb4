// Curves of a run: what varied is drawn, what stayed the same is listed as numbers. Owns no titles.
import { escapeHtml } from "./html.ts";
import { measureName } from "./measure-names.ts";
import type { ChartPoint, ChartSeries } from "./plot.ts";
import { lineChart } from "./plot.ts";
import type { MetricsRow, RunDirectory } from "./run-directory.ts";
import { type ChartPlan, mainCharts, metricTitle } from "./training-charts.ts";

/** A line through two points says less than the two numbers of the scores table. */
const LEAST_EVALUATIONS = 3;
/** Rounding of sums over a different number of batches is no change. */
const SAME = 1e-9;

/** Names of numeric columns but the axis. */
function numericNames(rows: readonly MetricsRow[]): string[] {
  const names = new Set<string>();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) if (typeof value === "number") names.add(name);
  }
  names.delete("step");
  names.delete("time");
  return [...names];
}

function pointsOf(rows: readonly MetricsRow[], name: string): ChartPoint[] {
  return rows.flatMap((row, index) => {
    const value = row[name];
    const step = typeof row.step === "number" ? row.step : index;
    return typeof value === "number" ? [{ x: step, y: value }] : [];
  });
}

/** Also true of a single point: neither is a curve. */
function isConstant(points: readonly ChartPoint[]): boolean {
  const values = points.map(({ y }) => y);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return high - low <= SAME * Math.max(1, Math.abs(low), Math.abs(high));
}

function chart(title: string, series: readonly ChartSeries[]): string {
  return lineChart({ title, xLabel: "step", yLabel: "", series, width: 500, height: 260 });
}

function drawPlan(rows: readonly MetricsRow[], plan: ChartPlan): string {
  const series = plan.series
    .map(([name, label]) => ({ name: label, points: pointsOf(rows, name) }))
    .filter(({ points }) => points.length > 0 && !isConstant(points));
  const [only] = series;
  if (only === undefined) return "";
  // Without its neighbours a line needs its own name in the title.
  const isAlone = series.length === 1 && plan.series.some(([, label]) => label !== only.name);
  return chart(isAlone ? `${plan.title}: ${only.name}` : plan.title, series);
}

function numbersHtml(rows: readonly MetricsRow[], names: readonly string[]): string {
  if (names.length === 0) return "";
  const cells = names.map((name) => {
    const value = pointsOf(rows, name).at(-1)?.y ?? Number.NaN;
    return `<tr><td>${escapeHtml(metricTitle(name))}</td><td>${Number(value.toPrecision(4))}</td></tr>`;
  });
  return `<details><summary>${names.length} more metrics that stayed the same</summary><table>${cells.join("\n")}</table></details>`;
}

/** What a reader looks for and does not find as a curve, e.g. a KL divergence that is 0 because the run is on-policy. */
function missingCurvesHtml(rows: readonly MetricsRow[]): string {
  const numbers = mainCharts.flatMap(({ title, series }) =>
    series.flatMap(([name, label]) => {
      const points = pointsOf(rows, name);
      const value = points.at(-1)?.y;
      if (value === undefined || !isConstant(points)) return [];
      return [`${title}: ${series.length > 1 ? `${label} ` : ""}<b>${Number(value.toPrecision(4))}</b>`];
    }),
  );
  return numbers.length > 0 ? `<p><small>The same at every step: ${numbers.join(" · ")}</small></p>` : "";
}

const inCharts = (charts: readonly string[]): string =>
  charts.length > 0 ? `<div class="charts">${charts.join("\n")}</div>` : "";

function stepsHtml(rows: readonly MetricsRow[]): string {
  const names = numericNames(rows);
  const constant = names.filter((name) => isConstant(pointsOf(rows, name)));
  const planned = new Set(mainCharts.flatMap(({ series }) => series.map(([name]) => name)));
  const rest = names.filter((name) => !planned.has(name) && !constant.includes(name));
  const main = mainCharts.map((plan) => drawPlan(rows, plan)).filter((svg) => svg !== "");
  const more = rest.map((name) => {
    const title = metricTitle(name);
    return chart(title, [{ name: title, points: pointsOf(rows, name) }]);
  });
  const details = `<details><summary>${rest.length} more metrics</summary>${inCharts(more)}</details>`;
  const others = constant.filter((name) => !planned.has(name));
  return `${inCharts(main)}${missingCurvesHtml(rows)}${rest.length > 0 ? details : ""}${numbersHtml(rows, others)}`;
}

/** One chart a team with the leading measure; everything else is a row of the scores table. */
function heldOutHtml(rows: readonly MetricsRow[]): string {
  if (rows.length < LEAST_EVALUATIONS) return "";
  const names = numericNames(rows);
  const teams = [...new Set(names.flatMap((name) => /^held_out_(\w+)\//.exec(name)?.[1] ?? []))];
  const ofTeams = teams.flatMap((team) => {
    const measure = ["itemF1", "qaScore"].find((each) => names.includes(`held_out_${team}/${each}_avg`));
    if (measure === undefined) return [];
    const series = (["avg", "max"] as const).map((each) => [`held_out_${team}/${measure}_${each}`, each] as const);
    return [{ title: `Held-out ${measureName(measure)}, ${team} (0 to 1)`, series }];
  });
  const others = names
    .filter((name) => !/^held_out_\w+\//.test(name))
    .map((name) => ({ title: metricTitle(name), series: [[name, metricTitle(name)] as const] }));
  const charts = [...ofTeams, ...others].map((plan) => drawPlan(rows, plan)).filter((svg) => svg !== "");
  return charts.length > 0 ? `<h3>Held out</h3>${inCharts(charts)}` : "";
}

/** Curves of the steps, then of the held-out evaluations. */
export function curvesHtml(run: RunDirectory): string {
  const steps = run.metrics.length > 0 ? stepsHtml(run.metrics) : "<p>No training metrics in this run.</p>";
  return `${steps}${heldOutHtml(run.evaluationRows)}`;
}
