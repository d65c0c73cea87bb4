// One self-contained HTML page for a run directory: scores, curves, config, traces. No script, no outside request.
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { atBoundary } from "@wideseek/spec";
import { escapeHtml } from "./html.ts";
import type { AtK, Estimate, Measure } from "./metrics.ts";
import { lineChart } from "./plot.ts";
import { type MetricsRow, type RunDirectory, readRunDirectory } from "./run-directory.ts";
import { sweepChart } from "./sweep.ts";
import { traceHtml } from "./trace-html.ts";

const style = `
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h3{font-size:1rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse}th,td{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}
.wide{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:1rem}.charts svg{max-width:100%;height:auto;border:1px solid #eee}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f8fa;padding:.5rem;margin:.25rem 0;font-size:13px}
summary{cursor:pointer}small{color:#666}details.episode{border:1px solid #ddd;border-radius:6px;padding:.5rem .75rem;margin:.5rem 0}
details.agent{border-left:3px solid #0072b2;margin:.5rem 0;padding-left:.75rem}details.agent.subagent{border-color:#009e73;margin-left:1.5rem}
.segment.sampled pre{background:#eef5fb}.score{display:inline-block;min-width:3.2rem;font-variant-numeric:tabular-nums;font-weight:700;color:#0072b2}
.think{color:#777}.tool_call{color:#8a3a00;font-weight:600}.tool_response{color:#205c3b}.bad{color:#b00020}
.term{display:inline-block;margin-right:1rem}.reason,.subtask{margin:.1rem 0;color:#444}.gain{color:#00703c}.loss{color:#b00020}`;

/** Measures in the order of the published tables. */
const shown: readonly (readonly [Measure, keyof AtK])[] = [
  ["itemF1", "avg"],
  ["itemF1", "max"],
  ["rowF1", "avg"],
  ["rowF1", "max"],
  ["success", "avg"],
  ["success", "pass"],
  ["qaScore", "avg"],
  ["qaScore", "pass"],
  ["qaExactMatch", "avg"],
  ["qaTokenF1", "avg"],
];

const percent = (value: number): string => (value * 100).toFixed(1);

/** NaN is null in JSON. */
function isMeasured(estimate: Estimate | undefined): estimate is Estimate {
  return estimate !== undefined && Number.isFinite(estimate.mean);
}

function estimateCell(estimate: Estimate | undefined): string {
  if (!isMeasured(estimate)) return "<td>–</td>";
  return `<td>${percent(estimate.mean)} <small>${percent(estimate.low)}–${percent(estimate.high)}</small></td>`;
}

/** "after…" minus its "before…" twin, where both are there: the same name with the word exchanged. */
function pairs(run: RunDirectory): { before: number; after: number }[] {
  return run.evaluations.flatMap(({ name }, before) => {
    const twin = name.replace("before", "after");
    const after = twin === name ? -1 : run.evaluations.findIndex((other) => other.name === twin);
    return after < 0 ? [] : [{ before, after }];
  });
}

function scoresHtml(run: RunDirectory): string {
  if (run.evaluations.length === 0) return firstAndLastHtml(run.evaluationRows) || "<p>No evaluation in this run.</p>";
  const twins = pairs(run);
  const samples = run.evaluations[0]?.report.samples ?? 0;
  const head = [
    ...run.evaluations.map(({ name }) => escapeHtml(name)),
    ...twins.map(({ after }) => `gain ${escapeHtml(run.evaluations[after]?.name ?? "")}`),
  ];
  const rows = shown.flatMap(([measure, statistic]) => {
    const estimates = run.evaluations.map(({ report }) => report.measures[measure]?.[statistic]);
    if (!estimates.some(isMeasured)) return [];
    const gains = twins.map(({ before, after }) => {
      const [from, to] = [estimates[before], estimates[after]];
      if (!isMeasured(from) || !isMeasured(to)) return "<td>–</td>";
      const gain = to.mean - from.mean;
      return `<td class="${gain < 0 ? "loss" : "gain"}">${gain < 0 ? "−" : "+"}${percent(Math.abs(gain))}</td>`;
    });
    return [
      `<tr><td>${measure} ${statistic}@${samples}</td>${estimates.map(estimateCell).join("")}${gains.join("")}</tr>`,
    ];
  });
  const cost = (title: string, value: (report: RunDirectory["evaluations"][number]["report"]) => number): string =>
    `<tr><td>${title}</td>${run.evaluations.map(({ report }) => `<td>${Number(value(report).toFixed(2))}</td>`).join("")}${twins.map(() => "<td></td>").join("")}</tr>`;
  return `<div class="wide"><table><thead><tr><th></th>${head.map((name) => `<th>${name}</th>`).join("")}</tr></thead><tbody>
${rows.join("\n")}
${cost("questions", (report) => report.numTasks)}
${cost("episodes not judged", (report) => report.numUnjudged)}
${cost("subagents per episode", (report) => report.statistics.numSubagents)}
${cost("lead turns", (report) => report.statistics.leadTurns)}
${cost("sampled tokens per episode", (report) => report.statistics.sampledTokens)}
</tbody></table></div><p><small>Percent; the small range is the 95 % bootstrap interval over questions.</small></p>`;
}

/** Held-out rows of the training loop: first against last evaluation. */
function firstAndLastHtml(rows: readonly MetricsRow[]): string {
  const [first, last] = [rows[0], rows.at(-1)];
  if (!first || !last) return "";
  const names = numericNames(rows);
  const body = names.map((name) => {
    const values = [first[name], last[name]].map((value) => (typeof value === "number" ? value : Number.NaN));
    const [from = Number.NaN, to = Number.NaN] = values;
    const cells = values.map((value) => `<td>${Number.isFinite(value) ? Number(value.toFixed(4)) : "–"}</td>`).join("");
    const change = Number.isFinite(to - from)
      ? `${to < from ? "−" : "+"}${Number(Math.abs(to - from).toFixed(4))}`
      : "–";
    return `<tr><td>${escapeHtml(name)}</td>${cells}<td>${change}</td></tr>`;
  });
  return `<div class="wide"><table><thead><tr><th></th><th>step ${escapeHtml(String(first.step))}</th><th>step ${escapeHtml(String(last.step))}</th><th>change</th></tr></thead><tbody>
${body.join("\n")}
</tbody></table></div>`;
}

const headline = /^(reward\/(mean|score)|table\/|qa\/|policy\/(entropy|kl|loss|grad)|episode\/subagents|loss|nll)/;

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

function metricChart(rows: readonly MetricsRow[], name: string): string {
  const points = rows.flatMap((row, index) => {
    const value = row[name];
    const step = typeof row.step === "number" ? row.step : index;
    return typeof value === "number" ? [{ x: step, y: value }] : [];
  });
  return lineChart({ title: name, xLabel: "step", yLabel: "", series: [{ name, points }], width: 500, height: 260 });
}

function chartsHtml(rows: readonly MetricsRow[], names: readonly string[]): string {
  return `<div class="charts">${names.map((name) => metricChart(rows, name)).join("\n")}</div>`;
}

function curvesHtml(run: RunDirectory): string {
  const heldOut = run.evaluationRows.length > 1 ? chartsHtml(run.evaluationRows, numericNames(run.evaluationRows)) : "";
  if (run.metrics.length === 0) return `${heldOut}<p>No training metrics in this run.</p>`;
  const names = numericNames(run.metrics);
  const rest = names.filter((name) => !headline.test(name));
  const first = names.filter((name) => headline.test(name));
  const more = `<details><summary>${rest.length} more metrics</summary>${chartsHtml(run.metrics, rest)}</details>`;
  const title = heldOut ? "<h3>Held out</h3>" : "";
  return `${title}${heldOut}<h3>Steps</h3>${chartsHtml(run.metrics, first)}${rest.length > 0 ? more : ""}`;
}

function sweepsHtml(run: RunDirectory): string {
  const parameters = [...new Set(run.sweeps.map(({ report }) => report.parameter))];
  if (parameters.length === 0) return "";
  const charts = parameters.map((parameter) =>
    sweepChart(
      run.sweeps
        .filter(({ report }) => report.parameter === parameter)
        .map(({ name, report }) => ({ name, sweep: report })),
    ),
  );
  return `<h2>Sweeps</h2><div class="charts">${charts.join("\n")}</div>`;
}

/** The whole page; every text that came from a model, a task or a file is escaped. */
export function renderReport(run: RunDirectory): string {
  const episodes = run.episodes.map(
    ({ name, traces, numTraces }) =>
      `<h3>${escapeHtml(name)}</h3><p><small>${traces.length} of ${numTraces} recorded episodes</small></p>${traces.map(traceHtml).join("\n")}`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(run.name)}</title><style>${style}</style></head><body>
<h1>${escapeHtml(run.name)}</h1>
<h2>Held-out scores</h2>
${scoresHtml(run)}
${sweepsHtml(run)}
<h2>Training</h2>
${curvesHtml(run)}
<h2>Episodes</h2>
${episodes.join("\n") || "<p>No episode traces in this run.</p>"}
<h2>Configuration</h2>
${run.config ? `<details><summary>config.yaml</summary><pre>${escapeHtml(run.config)}</pre></details>` : "<p>No config.yaml in this run.</p>"}
</body></html>
`;
}

/** Reads the run directory and writes report.html into it, atomically; returns its path. @throws WS_IO, WS_CORRUPT_FILE */
export async function writeHtmlReport(directory: string): Promise<string> {
  const html = renderReport(await readRunDirectory(directory));
  const path = join(directory, "report.html");
  await atBoundary("WS_IO", "writeHtmlReport", async () => {
    const file = await open(`${path}.tmp`, "w");
    try {
      await file.writeFile(html);
    } finally {
      await file.close();
    }
    await rename(`${path}.tmp`, path);
  });
  return path;
}
