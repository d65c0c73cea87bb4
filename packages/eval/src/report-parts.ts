// Below the scores of a report: languages and sets apart, what was left out, what failed. Owns no totals.
import type { EvaluationReport } from "./evaluate.ts";
import type { FailureKind } from "./failures.ts";
import { escapeHtml } from "./html.ts";
import { estimateCell, measureTitle } from "./measure-names.ts";
import type { AtK, Measure } from "./metrics.ts";
import type { RunDirectory } from "./run-directory.ts";

/** In the order of the published tables. */
const shown: readonly (readonly [Measure, keyof AtK])[] = [
  ["itemF1", "avg"],
  ["rowF1", "avg"],
  ["success", "avg"],
  ["qaScore", "avg"],
  ["qaExactMatch", "avg"],
  ["qaTokenF1", "avg"],
];
/** Kinds of failures that a table shows; the report file has them all. */
const SHOWN_KINDS = 20;

/** "" where every evaluation is of one language and one set, and nothing failed. */
export function partsHtml(run: RunDirectory): string {
  return run.evaluations.map(({ name, report }) => partTable(name, report) + leftOutNote(report)).join("\n");
}

function partTable(name: string, report: EvaluationReport): string {
  // Reports of earlier versions have no parts.
  const parts = report.parts ?? [];
  if (parts.length === 0) return "";
  const rows = [
    ...parts.map(({ by, value, numTasks, measures }) => ({ title: `${by} ${value}`, numTasks, measures })),
    ...(report.macro ? [{ title: "mean of the sets", numTasks: report.numTasks, measures: report.macro }] : []),
  ];
  const columns = shown.filter(([measure]) => rows.some(({ measures }) => measures[measure] !== undefined));
  const head = columns.map(([measure, statistic]) => `<th>${measureTitle(measure, statistic, report.samples)}</th>`);
  const body = rows.map(({ title, numTasks, measures }) => {
    const cells = columns.map(([measure, statistic]) => estimateCell(measures[measure]?.[statistic]));
    return `<tr><td>${escapeHtml(title)}</td>${cells.join("")}<td>${numTasks}</td></tr>`;
  });
  return `<h3>${escapeHtml(name)} by language and set</h3><div class="wide"><table><thead><tr><th></th>${head.join("")}<th>questions</th></tr></thead><tbody>
${body.join("\n")}
</tbody></table></div>`;
}

function leftOutNote({ leftOut = [] }: EvaluationReport): string {
  if (leftOut.length === 0) return "";
  return `<p><small>${leftOut.length} questions have no gold table and are in no score: ${escapeHtml(leftOut.join(", "))}</small></p>`;
}

/** What went wrong on the way, by kind and evaluation. */
export function failuresHtml(run: RunDirectory): string {
  const tables = run.evaluations.flatMap(({ name, report }) => {
    const { failures } = report;
    if (failures === undefined) return [];
    const rows = [...kindRows("not judged", failures.unjudged), ...kindRows("agents", failures.agents)];
    if (rows.length === 0) return [];
    const clean = `${failures.numCleanEpisodes} of ${report.numEpisodes} episodes went without any failure.`;
    return [
      `<h3>${escapeHtml(name)}</h3><p><small>${clean}</small></p><div class="wide"><table><thead><tr><th>where</th><th>what</th><th>times</th></tr></thead><tbody>
${rows.join("\n")}
</tbody></table></div>`,
    ];
  });
  return tables.length === 0 ? "" : `<h2>What failed</h2>${tables.join("\n")}`;
}

/** Retries, refusals, pages without a summary: no failures of an agent, but they say how well tools and models did. */
export function countsHtml({ counts }: RunDirectory): string {
  const rows = Object.entries(counts).map(([name, count]) => `<tr><td>${escapeHtml(name)}</td><td>${count}</td></tr>`);
  if (rows.length === 0) return "";
  return `<h2>Tools and models</h2><div class="wide"><table><thead><tr><th>what</th><th>times</th></tr></thead><tbody>
${rows.join("\n")}
</tbody></table></div>`;
}

function kindRows(where: string, kinds: readonly FailureKind[]): string[] {
  const rest = kinds.slice(SHOWN_KINDS).reduce((sum, { count }) => sum + count, 0);
  const all = rest > 0 ? [...kinds.slice(0, SHOWN_KINDS), { kind: "others", count: rest }] : kinds;
  return all.map(({ kind, count }) => `<tr><td>${where}</td><td>${escapeHtml(kind)}</td><td>${count}</td></tr>`);
}
