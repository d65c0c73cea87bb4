// One self-contained HTML page for a run directory: header, scores, curves, traces, config. No script, no outside request.
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { atBoundary } from "@wideseek/spec";
import { escapeHtml } from "./html.ts";
import { curvesHtml } from "./report-charts.ts";
import { headerHtml, legendHtml } from "./report-header.ts";
import { countsHtml, failuresHtml, partsHtml } from "./report-parts.ts";
import { scoresHtml } from "./report-scores.ts";
import { type RunDirectory, readRunDirectory } from "./run-directory.ts";
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
.segment.sampled pre{background:#eef5fb}.score{font-variant-numeric:tabular-nums;font-weight:700;color:#0072b2}
.think{color:#777}.tool_call{color:#8a3a00;font-weight:600}.tool_response{color:#205c3b}.bad{color:#b00020}
.term{display:inline-block;margin-right:1rem}.reason,.subtask{margin:.1rem 0;color:#444}.gain{color:#00703c}.loss{color:#b00020}
.fact{display:inline-block;margin-right:1.5rem}.legend{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;font-size:13px;margin:.5rem 0}.legend dt{font-weight:600}.legend dd{margin:0;color:#444}`;

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
  const isTraining = run.metrics.length > 0 || run.evaluationRows.length > 0;
  const episodes = run.episodes.map(
    ({ name, traces, numTraces }) =>
      `<h3>${escapeHtml(name)}</h3><p><small>${traces.length} of ${numTraces} recorded episodes</small></p>${traces.map((trace) => traceHtml(trace, isTraining)).join("\n")}`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(run.name)}</title><style>${style}</style></head><body>
${headerHtml(run)}
${legendHtml(run)}
<h2>Held-out scores</h2>
${scoresHtml(run)}
${partsHtml(run)}
${sweepsHtml(run)}
${failuresHtml(run)}
${countsHtml(run)}
${isTraining || run.evaluations.length === 0 ? `<h2>Training</h2>\n${curvesHtml(run)}` : ""}
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
