// Our figures beside the published ones: the table of a suite as data, Markdown and text. Owns no evaluation.
import type { Suite, SuiteColumn } from "@wideseek/config";
import { boundsMeaning, type Estimate, type EvaluationReport } from "@wideseek/eval";

/** A figure in percent with its 95 % interval over tasks; null where the questions have no such measure. */
export interface SuiteFigure {
  ours: { mean: number; low: number; high: number; bounds?: Estimate["bounds"] } | null;
  published: number | null;
}

/** Means per episode. */
export interface SuiteCost {
  modelCalls: number;
  promptTokens: number;
  sampledTokens: number;
  searches: number;
  accesses: number;
  seconds: number;
}

export interface SuiteRowReport {
  id: string;
  system: string;
  team: "single" | "multi";
  workflow: string;
  /** Name in the suite of each role's model. */
  models: Readonly<Record<string, string>>;
  note: string;
  /** "missing": `reasons` say what is not configured. "failed": they say why no episode worked. */
  status: "done" | "missing" | "failed";
  reasons: string[];
  figures: Record<string, SuiteFigure>;
  cost: SuiteCost | null;
  numEpisodes: number;
  /** Scored 0: the system ended without an answer because a model or tool could not be reached. */
  numErrors: number;
  /** In no figure: the judge could not judge. */
  numUnjudged: number;
}

/** JSON-safe. */
export interface SuiteReport {
  suite: string;
  title: string;
  /** Of the questions: "embedded" or "files". */
  data: string;
  samples: number;
  numTasks: number;
  columns: { id: string; label: string }[];
  /** Models that the config puts in the place of the suite's, by name. */
  replaced: Readonly<Record<string, string>>;
  /** True when the judge was asked and never gave a judgement. */
  judgeFailed: boolean;
  rows: SuiteRowReport[];
}

export function rowFigures(
  suite: Suite,
  published: Readonly<Record<string, number>>,
  report?: EvaluationReport,
): Record<string, SuiteFigure> {
  return Object.fromEntries(
    Object.entries(suite.columns).map(([id, column]) => [
      id,
      { ours: report === undefined ? null : figure(column, report), published: published[id] ?? null },
    ]),
  );
}

function figure({ measure, statistic, dataset }: SuiteColumn, report: EvaluationReport): SuiteFigure["ours"] {
  const all = report.macro ?? report.measures;
  const ofSet = report.parts.find(({ by, value }) => by === "dataset" && value === dataset)?.measures;
  // An evaluation of one set alone has no parts.
  const sets = new Set(report.tasks.map((task) => task.dataset));
  const only = dataset !== null && sets.size === 1 && sets.has(dataset) ? report.measures : undefined;
  const estimate = (dataset === null ? all : (ofSet ?? only))?.[measure]?.[statistic];
  if (estimate === undefined || !Number.isFinite(estimate.mean)) return null;
  const { mean, low, high, bounds } = estimate;
  const percent = bounds && { bounds: { low: 100 * bounds.low, high: 100 * bounds.high } };
  return { mean: 100 * mean, low: 100 * low, high: 100 * high, ...percent };
}

export function rowCost({ statistics }: EvaluationReport): SuiteCost {
  const { modelCalls, promptTokens, sampledTokens, numSearches, numAccesses, seconds } = statistics;
  return { modelCalls, promptTokens, sampledTokens, searches: numSearches, accesses: numAccesses, seconds };
}

/** "40.1 (40.0)": ours, then the published figure; "-" for what there is not. */
function cell({ ours, published }: SuiteFigure, mark: string): string {
  const bounds = ours?.bounds && ` [${ours.bounds.low.toFixed(1)}–${ours.bounds.high.toFixed(1)}]`;
  const text = ours === null ? "-" : `${ours.mean.toFixed(1)}${mark}${bounds ?? ""}`;
  return published === null ? text : `${text} (${published.toFixed(1)})`;
}

/** Models that stand for the system's own. */
function players({ models }: SuiteRowReport, replaced: SuiteReport["replaced"]): string[] {
  return [...new Set(Object.values(models).flatMap((name) => replaced[name]?.split(" at ")[0] ?? []))];
}

/** What `pnpm run scripted-models` calls its models. */
const isScript = (player: string): boolean => player.startsWith("scripted-");

/** A figure that a script earned is no figure of the system, wherever the row is copied to. */
const scriptMark = "†";
const scriptMeaning = `${scriptMark} played by a script: the row runs from question to score; its figures say nothing about the system`;

const teams = { single: "single agent", multi: "several agents" } as const;

/** Head and rows of the table of figures, then those of the table of costs. */
function tables({ columns, rows, replaced }: SuiteReport): string[][][] {
  const head = ["system", "team", "played by", ...columns.map(({ label }) => label)];
  const figures = rows.map((row) => {
    const by = players(row, replaced);
    const mark = by.some(isScript) ? scriptMark : "";
    return [
      row.system,
      teams[row.team],
      by.join(", ") || "its own models",
      ...columns.map(({ id }) => cell(row.figures[id] ?? { ours: null, published: null }, mark)),
    ];
  });
  const costHead = [
    "system",
    "calls",
    "tokens read",
    "tokens written",
    "searches",
    "pages",
    "seconds",
    "errors",
    "unjudged",
  ];
  const costs = rows.flatMap((row) => {
    const { cost, numErrors, numUnjudged, numEpisodes } = row;
    if (cost === null) return [];
    const { modelCalls, promptTokens, sampledTokens, searches, accesses, seconds } = cost;
    const means = [modelCalls, promptTokens, sampledTokens, searches, accesses, seconds].map((value) => short(value));
    return [[row.system, ...means, `${numErrors} of ${numEpisodes}`, `${numUnjudged} of ${numEpisodes}`]];
  });
  return [
    [head, ...figures],
    [costHead, ...costs],
  ];
}

const short = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

function heading({ data, samples, numTasks, replaced }: SuiteReport): string {
  const questions = data === "embedded" ? "questions of the embedded world, so not those of the paper" : "questions";
  const models = Object.keys(replaced).length > 0 ? " Models stand for others where the list below says so." : "";
  return `Percent, ours first, the published figure in brackets; ${numTasks} ${questions}, ${samples} samples each.${models}`;
}

const costHeading =
  "Means of an episode; errors: ended by an unreachable model or tool, scored 0; unjudged: in no judged figure.";

/** One line for each model that stands for another, each row that did not run, and each note. */
function remarks({ rows, replaced }: SuiteReport): string[] {
  const stands = Object.entries(replaced).map(([name, other]) => `the model ${name} is ${other} here`);
  const lines = rows.flatMap(({ id, system, status, reasons }) => {
    if (status === "done") return [];
    const what = status === "missing" ? "not run, missing" : "failed";
    return [`${system} (${id}): ${what}: ${reasons.join("; ")}`];
  });
  const scripted = rows.some((row) => row.status === "done" && players(row, replaced).some(isScript));
  return [
    ...(scripted ? [scriptMeaning] : []),
    ...stands,
    ...(rows.some(({ numUnjudged }) => numUnjudged > 0) ? [boundsMeaning] : []),
    ...lines,
    ...rows.flatMap(({ system, id, note }) => (note === "" ? [] : [`${system} (${id}): ${note}`])),
  ];
}

export function suiteMarkdown(report: SuiteReport): string {
  const inCell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const [figures = [], costs = []] = tables(report).map(([head = [], ...rows]) => {
    const line = (cells: readonly string[]): string => `| ${cells.map(inCell).join(" | ")} |`;
    return [line(head), line(head.map((_, index) => (index === 0 ? "---" : "---:"))), ...rows.map(line)];
  });
  const notes = remarks(report).map((line) => `- ${inCell(line)}`);
  const hasRun = report.rows.some(({ cost }) => cost !== null);
  const parts = [
    `# ${report.title}`,
    heading(report),
    figures.join("\n"),
    hasRun ? costHeading : "",
    hasRun ? costs.join("\n") : "",
    notes.join("\n"),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

export function suiteText(report: SuiteReport): string {
  const [figures = "", costs = ""] = tables(report).map((rows) => {
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
    const format = (row: readonly string[]): string => {
      return row
        .map((text, column) => (column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0)))
        .join("  ");
    };
    return rows.map(format).join("\n");
  });
  const costLines = report.rows.some(({ cost }) => cost !== null) ? ["", costHeading, costs] : [];
  const lines = [report.title, heading(report), "", figures, ...costLines, "", ...remarks(report)];
  return lines.join("\n").trimEnd();
}
