// The top of a report: which model, team, steps and time, and what the words of the tables mean. Owns no scores.
import { escapeHtml } from "./html.ts";
import type { RunDirectory } from "./run-directory.ts";

/** A value of config.yaml as `formatConfig` writes it: two spaces, one key a line. */
function configValue(config: string, section: string, key: string): string | undefined {
  const body = new RegExp(`^${section}:\\n((?: .*\\n?)*)`, "m").exec(config)?.[1] ?? "";
  return new RegExp(`^ {2}${key}: (.+)$`, "m").exec(body)?.[1];
}

/** Seconds since 1970 of everything that was logged, in order. */
function times(run: RunDirectory): number[] {
  const rows = [...run.metrics, ...run.evaluationRows];
  return rows.flatMap(({ time }) => (typeof time === "number" ? [time] : [])).sort((a, b) => a - b);
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function timeFacts(run: RunDirectory): [string, string][] {
  const logged = times(run);
  const [first, last] = [logged[0], logged.at(-1)];
  if (first === undefined || last === undefined) {
    const seconds = run.evaluations.reduce((sum, { report }) => sum + report.seconds, 0);
    return seconds > 0 ? [["duration", duration(seconds)]] : [];
  }
  // A row is logged when its step has ended; the step that the log begins with took time as well.
  const firstStep = run.metrics[0]?.["time/step"];
  const begins = run.metrics[0]?.time === first && typeof firstStep === "number" ? first - firstStep : first;
  const date = `${new Date(begins * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  return [
    ["duration", duration(last - begins)],
    ["begun", date],
  ];
}

const isColdStart = (run: RunDirectory): boolean => run.metrics.some((row) => "cold_start/loss" in row);

/** A cold start that made its model did not begin from `model.directory`. */
function modelName(run: RunDirectory): string | undefined {
  if (isColdStart(run) && /^ {2}create:$/m.test(run.config)) return "new, from model.create";
  return configValue(run.config, "model", "directory");
}

function stepsFact(run: RunDirectory): [string, string][] {
  const done = run.metrics.at(-1)?.step;
  if (typeof done !== "number") return [];
  const planned = configValue(run.config, isColdStart(run) ? "coldStart" : "train", "steps");
  return [["steps", `${done}${planned ? ` of ${planned}` : ""}${isColdStart(run) ? " (cold start)" : ""}`]];
}

function workflows(run: RunDirectory): string | undefined {
  if (run.metrics.length > 0 || run.evaluations.length === 0) return configValue(run.config, "agents", "workflow");
  return run.evaluations.map(({ name }) => name).join(", ");
}

/** Model, workflow, steps, duration and date, as far as the run says. */
export function headerHtml(run: RunDirectory): string {
  const model = modelName(run);
  const workflow = workflows(run);
  const facts: [string, string][] = [
    ...(model === undefined || model === "null" ? [] : ([["model", model]] as [string, string][])),
    ...(workflow === undefined ? [] : ([["workflow", workflow]] as [string, string][])),
    ...stepsFact(run),
    ...timeFacts(run),
  ];
  const cells = facts.map(
    ([name, value]) => `<span class="fact"><small>${name}</small> <b>${escapeHtml(value)}</b></span>`,
  );
  return `<h1>${escapeHtml(run.name)}</h1>${cells.length > 0 ? `<p>${cells.join("")}</p>` : ""}`;
}

/** The words of the tables and charts; k is the number of samples a question. */
export function legendHtml(run: RunDirectory): string {
  const k = run.evaluations[0]?.report.samples ?? "k";
  const words: readonly (readonly [string, string])[] = [
    [`avg@${k}`, `mean over the ${k} samples of a question, then over questions`],
    [`max@${k}`, "the best sample of each question, then the mean over questions"],
    [`pass@${k}`, "share of questions with a sample that is entirely right"],
    ["mas", "multi-agent: a lead that delegates to subagents"],
    ["sa", "single agent, which does everything itself"],
  ];
  const zeroVariance = [
    "zero variance",
    "all episodes of a group earned the same reward, so the group teaches nothing",
  ];
  const items = [...words, ...(run.metrics.length > 0 ? [zeroVariance] : [])].map(
    ([word, meaning]) => `<dt>${word}</dt><dd>${meaning}</dd>`,
  );
  return `<dl class="legend">${items.join("")}</dl><p><small>Scores are fractions between 0 and 1. A reward is the score with the terms of training added: it may be more than 1.</small></p>`;
}
