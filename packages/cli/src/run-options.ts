// Options that train, cold-start and eval share: which config, which folder. Owns no defaults of a run.
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { type ConfiguredRun, type CreateRunOptions, createRun, loadConfig, WideSeekError } from "@wideseek/core";
import { Command } from "commander";
import { stopOnSignal } from "./stop.ts";

export interface RunFlags {
  config?: string;
  set: string[];
  /** True: the newest run of this command. */
  resume?: string | true;
  runDir?: string;
  steps?: string;
}

const RUNS = "runs";
const DEFAULT_CONFIGS = {
  train: "configs/embedded.yaml",
  eval: "configs/embedded.yaml",
  suite: "configs/suite-embedded.yaml",
  "cold-start": "configs/cold-start.yaml",
} as const;
type RunKind = keyof typeof DEFAULT_CONFIGS;

export function runCommand(name: Exclude<RunKind, "suite">, description: string): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  return new Command(name)
    .description(description)
    .option("--config <file>", `YAML config; default: ${DEFAULT_CONFIGS[name]}`)
    .option(
      "--set <key=value>",
      "override one setting, e.g. --set train.steps=10; may be repeated; another data.source drops the file's data",
      collect,
      [],
    )
    .option("--run-dir <dir>", "folder of the results; default: a new one under runs/");
}

export function withResumeFlag(command: Command): Command {
  return command.option(
    "--resume [dir]",
    "continue a run with its own config; without a folder the newest one of this command",
  );
}

export function withTrainingFlags(command: Command): Command {
  return withResumeFlag(command).option("--steps <number>", "short for --set of the number of steps");
}

/** Runs `work` on the configured run and closes it; SIGINT and SIGTERM abort it. */
export async function withRun<T>(kind: RunKind, flags: RunFlags, work: (run: ConfiguredRun) => Promise<T>): Promise<T> {
  using stop = stopOnSignal();
  const options = await runOptions(kind, flags);
  await using run = await createRun({ ...options, progress: process.stderr, signal: stop.signal });
  return await work(run);
}

export async function runOptions(
  kind: RunKind,
  flags: RunFlags,
): Promise<Pick<CreateRunOptions, "config" | "directory" | "resume">> {
  const section = kind === "cold-start" ? "coldStart" : "train";
  const overrides = [...flags.set, ...(flags.steps === undefined ? [] : [`${section}.steps=${flags.steps}`])];
  if (flags.resume === undefined) {
    const config = await loadConfig({ file: flags.config ?? DEFAULT_CONFIGS[kind], overrides });
    const directory = flags.runDir ?? config.run.directory ?? path.join(RUNS, `${kind}-${timestamp()}`);
    return { config, directory, resume: false };
  }
  if (flags.config !== undefined || flags.runDir !== undefined) {
    throw invalid("--resume continues with the folder and config of its run; leave out --config and --run-dir");
  }
  const directory = flags.resume === true ? await newestRun(kind) : flags.resume;
  const file = path.join(directory, "config.yaml");
  if (!existsSync(file)) throw invalid(`--resume ${directory}: no run there, ${file} is missing`);
  return { config: await loadConfig({ file, overrides }), directory, resume: true };
}

async function newestRun(kind: string): Promise<string> {
  const names = existsSync(RUNS) ? await readdir(RUNS) : [];
  const own = names.filter((name) => name.startsWith(`${kind}-`) && existsSync(path.join(RUNS, name, "config.yaml")));
  // The names end in their time, so the last one in order is the newest.
  const newest = own.sort().at(-1);
  if (newest === undefined) throw invalid(`--resume: no run of ${kind} under ${RUNS}/; name its folder`);
  return path.join(RUNS, newest);
}

/** 20260131-235959, local time. */
function timestamp(): string {
  const now = new Date();
  const digits = (value: number): string => String(value).padStart(2, "0");
  const date = `${now.getFullYear()}${digits(now.getMonth() + 1)}${digits(now.getDate())}`;
  return `${date}-${[now.getHours(), now.getMinutes(), now.getSeconds()].map(digits).join("")}`;
}

export function invalid(message: string): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "cli" });
}
