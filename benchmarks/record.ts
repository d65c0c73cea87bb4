// One measured figure as a JSON line, with the machine and commit it came from. Owns benchmarks/results/*.jsonl.
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "./measure.ts";

export const repositoryRoot: string = join(dirname(fileURLToPath(import.meta.url)), "..");

/** What a benchmark found: one value per round. */
export interface Measurement {
  /** Names of figures are fixed, see figures.ts; others may be added. */
  name: string;
  unit: string;
  values: readonly number[];
  params: Readonly<Record<string, unknown>>;
}

export interface BenchmarkRecord {
  name: string;
  /** Median. */
  value: number;
  unit: string;
  n: number;
  min: number;
  max: number;
  params: Readonly<Record<string, unknown>>;
  device: string;
  threads: number;
  commit: string;
  dirty: boolean;
  command: string;
  date: string;
}

export interface RunFacts {
  device: string;
  threads: number;
  commit: string;
  dirty: boolean;
  command: string;
}

function git(...args: string[]): string {
  return execFileSync("git", args, { cwd: repositoryRoot, encoding: "utf8" }).trim();
}

/** Results do not make a tree dirty: a second benchmark of the same commit is still of that commit. */
export function runFacts(device: string, threads: number, args: readonly string[]): RunFacts {
  return {
    device,
    threads,
    commit: git("rev-parse", "--short=12", "HEAD"),
    dirty: git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!BENCHMARKS.md") !== "",
    command: ["pnpm run bench", ...args].join(" "),
  };
}

export function toRecord(measurement: Measurement, facts: RunFacts, date: Date): BenchmarkRecord {
  const { name, unit, values, params } = measurement;
  return {
    name,
    value: median(values),
    unit,
    n: values.length,
    min: Math.min(...values),
    max: Math.max(...values),
    params,
    ...facts,
    date: date.toISOString(),
  };
}

/** Appends, so that the history of a figure stays. */
export function appendRecord(directory: string, benchmark: string, record: BenchmarkRecord): void {
  mkdirSync(directory, { recursive: true });
  appendFileSync(join(directory, `${benchmark}.jsonl`), `${JSON.stringify(record)}\n`);
}
