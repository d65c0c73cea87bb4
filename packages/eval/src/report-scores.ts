// Tables of held-out scores: every evaluation of a run, and what changed between before and after. Owns no curves.

import type { Estimate } from "./bootstrap.ts";
import { escapeHtml } from "./html.ts";
import { boundsMeaning, changeCell, estimateCell, isShown, measureTitle } from "./measure-names.ts";
import type { AtK, Measure } from "./metrics.ts";
import type { MetricsRow, RunDirectory } from "./run-directory.ts";
import { metricTitle } from "./training-charts.ts";

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

/** NaN is null in JSON. */
function isMeasured(estimate: Estimate | undefined): estimate is Estimate {
  return estimate !== undefined && Number.isFinite(estimate.mean);
}

/** "after…" minus its "before…" twin, where both are there: the same name with the word exchanged. */
function pairs(run: RunDirectory): { before: number; after: number }[] {
  return run.evaluations.flatMap(({ name }, before) => {
    const twin = name.replace("before", "after");
    const after = twin === name ? -1 : run.evaluations.findIndex((other) => other.name === twin);
    return after < 0 ? [] : [{ before, after }];
  });
}

/** "after-mas" -> "mas", to name a change. */
function changeTitle(name: string): string {
  const workflow = name.replace("after", "").replace(/^-/, "");
  return workflow === "" ? "change" : `change ${workflow}`;
}

export function scoresHtml(run: RunDirectory): string {
  if (run.evaluations.length === 0) return firstAndLastHtml(run.evaluationRows) || "<p>No evaluation in this run.</p>";
  const twins = pairs(run);
  const samples = run.evaluations[0]?.report.samples ?? 0;
  const head = [
    ...run.evaluations.map(({ name }) => escapeHtml(name)),
    ...twins.map(({ after }) => escapeHtml(changeTitle(run.evaluations[after]?.name ?? ""))),
  ];
  const rows = shown.flatMap(([measure, statistic]) => {
    const estimates = run.evaluations.map(({ report }) => report.measures[measure]?.[statistic]);
    if (!estimates.some(isShown)) return [];
    const changes = twins.map(({ before, after }) => {
      const [from, to] = [estimates[before], estimates[after]];
      return changeCell(isMeasured(from) && isMeasured(to) ? to.mean - from.mean : Number.NaN);
    });
    const title = measureTitle(measure, statistic, samples);
    return [`<tr><td>${title}</td>${estimates.map(estimateCell).join("")}${changes.join("")}</tr>`];
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
</tbody></table></div><p><small>The small range is the 95 % bootstrap interval over questions.</small></p>${unjudgedNote(run)}`;
}

function unjudgedNote({ evaluations }: RunDirectory): string {
  const lacking = evaluations.filter(({ report }) => report.numUnjudged > 0);
  if (lacking.length === 0) return "";
  const counts = lacking.map(({ name, report }) => `${name}: ${report.numUnjudged} of ${report.numEpisodes}`);
  return `<p class="bad">Episodes not judged: ${escapeHtml(counts.join(", "))}. ${boundsMeaning}</p>`;
}

/** Held-out rows of the training loop: first against last evaluation. */
function firstAndLastHtml(rows: readonly MetricsRow[]): string {
  const [first, last] = [rows[0], rows.at(-1)];
  if (!first || !last) return "";
  const names = Object.keys(first).filter((name) => !["step", "time"].includes(name));
  const body = names.map((name) => {
    const values = [first[name], last[name]].map((value) => (typeof value === "number" ? value : Number.NaN));
    const [from = Number.NaN, to = Number.NaN] = values;
    const cells = values.map((value) => `<td>${Number.isFinite(value) ? Number(value.toFixed(4)) : "–"}</td>`).join("");
    const change = to - from;
    const sign = change === 0 ? "" : change < 0 ? "−" : "+";
    const text = Number.isFinite(change) ? `${sign}${Number(Math.abs(change).toFixed(4))}` : "–";
    return `<tr><td>${escapeHtml(metricTitle(name))}</td>${cells}<td>${text}</td></tr>`;
  });
  return `<div class="wide"><table><thead><tr><th></th><th>step ${escapeHtml(String(first.step))}</th><th>step ${escapeHtml(String(last.step))}</th><th>change</th></tr></thead><tbody>
${body.join("\n")}
</tbody></table></div>`;
}
