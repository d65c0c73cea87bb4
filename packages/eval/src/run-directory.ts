// Reads what a run left behind for its report. Owns no writing; every part but the folder itself may be missing.
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";
import type { EvaluationReport } from "./evaluate.ts";
import type { SweepReport } from "./sweep.ts";
import { type EpisodeTrace, parseEpisodeTrace } from "./trace.ts";

/** Numbers of one step by name; has `step`. */
export type MetricsRow = Readonly<Record<string, unknown>>;

/**
 * config.yaml · metrics.jsonl, evaluations.jsonl (MetricsRow) · episodes.jsonl (EpisodeTrace) ·
 * tools.json, models.json (counts) · eval/NAME.json (EvaluationReport) · eval/NAME.sweep.json (SweepReport) · eval/NAME.episodes.jsonl (EpisodeTrace)
 */
export interface RunDirectory {
  name: string;
  /** YAML as written; "" when missing. */
  config: string;
  /** Training steps. */
  metrics: MetricsRow[];
  /** Held-out scores while training. */
  evaluationRows: MetricsRow[];
  evaluations: { name: string; report: EvaluationReport }[];
  sweeps: { name: string; report: SweepReport }[];
  episodes: EpisodeFile[];
  /** What tools and models counted, by name: tools.json and models.json. */
  counts: Readonly<Record<string, number>>;
}

export interface EpisodeFile {
  /** "training", or the name of the evaluation. */
  name: string;
  traces: EpisodeTrace[];
  /** Traces there are; `traces` may hold fewer. */
  numTraces: number;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

async function readOptional(path: string): Promise<string> {
  return await atBoundary("WS_IO", "readRunDirectory", async () => {
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if (isMissing(error)) return "";
      throw error;
    }
  });
}

async function listOptional(directory: string, ending: string): Promise<string[]> {
  return await atBoundary("WS_IO", "readRunDirectory", async () => {
    try {
      return (await readdir(directory)).filter((file) => file.endsWith(ending));
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  });
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const message = `${where}: ${errorMessage(error)}`;
    throw new WideSeekError("WS_CORRUPT_FILE", message, { op: "readRunDirectory", cause: error });
  }
}

async function readRows(path: string): Promise<MetricsRow[]> {
  // Whole lines only: a run that is still writing may have left half a line at the end.
  const lines = (await readOptional(path)).split("\n").slice(0, -1);
  return lines.map((line, index) => parseJson(line, `${path}:${index + 1}`) as MetricsRow);
}

/** Traces are long, so the file is streamed. */
async function forEachLine(path: string, visit: (line: string, index: number) => void): Promise<number> {
  return await atBoundary("WS_IO", "readRunDirectory", async () => {
    let index = 0;
    try {
      for await (const line of createInterface({
        input: createReadStream(path),
        crlfDelay: Number.POSITIVE_INFINITY,
      })) {
        visit(line, index++);
      }
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    return index;
  });
}

/** First and last and evenly between, so that a long run shows its whole course. */
export function spreadIndices(count: number, picked: number): Set<number> {
  if (count <= picked) return new Set(Array.from({ length: count }, (_, index) => index));
  if (picked === 1) return new Set([count - 1]);
  return new Set(Array.from({ length: picked }, (_, i) => Math.round((i * (count - 1)) / (picked - 1))));
}

async function readTraces(path: string, maxTraces: number): Promise<Omit<EpisodeFile, "name">> {
  let lastIsWhole = true;
  const numLines = await forEachLine(path, (line) => {
    lastIsWhole = line.endsWith("}");
  });
  const numTraces = lastIsWhole ? numLines : numLines - 1;
  const picked = spreadIndices(numTraces, maxTraces);
  const traces: EpisodeTrace[] = [];
  await forEachLine(path, (line, index) => {
    const where = `${path}:${index + 1}`;
    if (picked.has(index)) traces.push(parseEpisodeTrace(parseJson(line, where), where));
  });
  return { traces, numTraces };
}

/** Names of the finished evaluations of a run, without sweeps. @throws WS_IO */
export async function listEvaluations(directory: string): Promise<string[]> {
  const files = (await listOptional(join(directory, "eval"), ".json")).sort(beforeFirst);
  return files.filter((file) => !file.endsWith(".sweep.json")).map((file) => basename(file, ".json"));
}

/** @throws WS_IO when the folder is missing, WS_CORRUPT_FILE or WS_INVALID_ARGUMENT with file and line */
export async function readRunDirectory(directory: string, maxTraces = 32): Promise<RunDirectory> {
  await readdir(directory).catch((error: unknown) => {
    const message = `${directory}: no run folder that can be read (${errorMessage(error)})`;
    throw new WideSeekError("WS_IO", message, { op: "readRunDirectory", cause: error });
  });
  const evaluations: RunDirectory["evaluations"] = [];
  const sweeps: RunDirectory["sweeps"] = [];
  const evalDirectory = join(directory, "eval");
  const episodes: EpisodeFile[] = [];
  for (const file of (await listOptional(evalDirectory, ".episodes.jsonl")).sort(beforeFirst)) {
    const found = await readTraces(join(evalDirectory, file), maxTraces);
    episodes.push({ name: basename(file, ".episodes.jsonl"), ...found });
  }
  episodes.push({ name: "training", ...(await readTraces(join(directory, "episodes.jsonl"), maxTraces)) });
  for (const file of (await listOptional(evalDirectory, ".json")).sort(beforeFirst)) {
    const path = join(evalDirectory, file);
    const report = parseJson(await readOptional(path), path);
    if (file.endsWith(".sweep.json"))
      sweeps.push({ name: basename(file, ".sweep.json"), report: report as SweepReport });
    else evaluations.push({ name: basename(file, ".json"), report: report as EvaluationReport });
  }
  return {
    name: basename(resolve(directory)),
    config: await readOptional(join(directory, "config.yaml")),
    metrics: await readRows(join(directory, "metrics.jsonl")),
    evaluationRows: await readRows(join(directory, "evaluations.jsonl")),
    evaluations,
    sweeps,
    episodes: episodes.filter(({ numTraces }) => numTraces > 0),
    counts: { ...(await readCounts(directory, "tools.json")), ...(await readCounts(directory, "models.json")) },
  };
}

async function readCounts(directory: string, name: string): Promise<Record<string, number>> {
  const path = join(directory, name);
  const text = await readOptional(path);
  return text === "" ? {} : (parseJson(text, path) as Record<string, number>);
}

/** "before" in front of "after", then by name with step-2 before step-10. */
function beforeFirst(a: string, b: string): number {
  const isBefore = (name: string): number => (name.includes("before") ? 0 : 1);
  return isBefore(a) - isBefore(b) || a.localeCompare(b, "en", { numeric: true });
}
