// Reads what a run left behind for its report. Owns no writing; every part but the folder itself may be missing.
import { readdir, readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";
import type { EvaluationReport } from "./evaluate.ts";
import type { SweepReport } from "./sweep.ts";
import { type EpisodeTrace, parseEpisodeTrace } from "./trace.ts";

export type MetricsRow = Readonly<Record<string, unknown>>;

/**
 * config.yaml · metrics.jsonl (one object a step, key `step`) · eval/NAME.json (EvaluationReport) ·
 * eval/NAME.sweep.json (SweepReport) · traces/NAME.jsonl (EpisodeTrace)
 */
export interface RunDirectory {
  name: string;
  /** YAML as written; "" when missing. */
  config: string;
  metrics: MetricsRow[];
  evaluations: { name: string; report: EvaluationReport }[];
  sweeps: { name: string; report: SweepReport }[];
  traces: EpisodeTrace[];
  /** Traces there are; `traces` may hold fewer. */
  numTraces: number;
}

async function readOptional(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw new WideSeekError("WS_IO", `${path}: ${errorMessage(error)}`, { op: "readRunDirectory", cause: error });
  }
}

async function listOptional(directory: string, ending: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((file) => file.endsWith(ending)).sort(byNumber);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new WideSeekError("WS_IO", `${directory}: ${errorMessage(error)}`, { op: "readRunDirectory", cause: error });
  }
}

/** step-2 before step-10. */
function byNumber(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${where}: ${errorMessage(error)}`, {
      op: "readRunDirectory",
      cause: error,
    });
  }
}

/** Whole lines only: a run that is still writing may have left half a line at the end. */
function parseJsonLines(text: string, path: string): unknown[] {
  const lines = text.split("\n").slice(0, -1);
  return lines.flatMap((line, index) => (line.trim() === "" ? [] : [parseJson(line, `${path}:${index + 1}`)]));
}

/** First and last and evenly between, so that a long run shows its whole course. */
function spread<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  if (count === 1) return items.slice(-1);
  const picked = new Set(Array.from({ length: count }, (_, i) => Math.round((i * (items.length - 1)) / (count - 1))));
  return items.filter((_, index) => picked.has(index));
}

async function readTraces(
  directory: string,
  maxTraces: number,
): Promise<{ traces: EpisodeTrace[]; numTraces: number }> {
  const traces: EpisodeTrace[] = [];
  let numTraces = 0;
  const files = await listOptional(directory, ".jsonl");
  const perFile = Math.max(1, Math.ceil(maxTraces / Math.max(1, files.length)));
  for (const file of files) {
    const path = join(directory, file);
    const values = parseJsonLines(await readOptional(path), path);
    numTraces += values.length;
    traces.push(...spread(values, perFile).map((value) => parseEpisodeTrace(value, path)));
  }
  return { traces: spread(traces, maxTraces), numTraces };
}

/** @throws WS_IO when the folder is missing, WS_CORRUPT_FILE with the line */
export async function readRunDirectory(directory: string, maxTraces = 32): Promise<RunDirectory> {
  await atBoundary("WS_IO", "readRunDirectory", () => readdir(directory));
  const metricsPath = join(directory, "metrics.jsonl");
  const evalDirectory = join(directory, "eval");
  const evaluations: RunDirectory["evaluations"] = [];
  const sweeps: RunDirectory["sweeps"] = [];
  for (const file of await listOptional(evalDirectory, ".json")) {
    const path = join(evalDirectory, file);
    const report = parseJson(await readOptional(path), path);
    if (file.endsWith(".sweep.json"))
      sweeps.push({ name: basename(file, ".sweep.json"), report: report as SweepReport });
    else evaluations.push({ name: basename(file, ".json"), report: report as EvaluationReport });
  }
  return {
    name: basename(resolve(directory)),
    config: await readOptional(join(directory, "config.yaml")),
    metrics: parseJsonLines(await readOptional(metricsPath), metricsPath).map((row) => row as MetricsRow),
    evaluations,
    sweeps,
    ...(await readTraces(join(directory, "traces"), maxTraces)),
  };
}
