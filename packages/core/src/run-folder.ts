// What a run folder holds: nothing, the beginning of a run, or a run, of which command and settings. Owns run.json.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import {
  changedEvaluation,
  changedSettings,
  hashConfig,
  loadConfig,
  type RunConfig,
  shrunkEvaluation,
} from "@wideseek/config";
import { atBoundary, WideSeekError } from "@wideseek/spec";
import { CONFIG_FILE, checkResumable, latestCheckpoint, writeAtomic } from "@wideseek/train";

const RUN_FILE = "run.json";

const COMMANDS = ["train", "cold-start", "eval", "suite"] as const;
export type RunCommand = (typeof COMMANDS)[number];

/**
 * A new run wants an empty folder, or one in which a run was killed before it had begun; `resume` takes a run too.
 * @throws WS_INVALID_ARGUMENT when the folder holds anything else
 */
export async function checkRunFolder(directory: string, resume: boolean): Promise<void> {
  const fail = (message: string): never => {
    throw new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "createRun", details: { directory } });
  };
  // What a kill may leave before the first file is whole does not count.
  const names = (await list(directory)).filter((name) => !/^(run\.lock|\.tmp-)/.test(name)).sort();
  if (names.includes(CONFIG_FILE)) {
    if (resume) return;
    fail(`${directory} already holds a run; continue it with --resume or choose another folder`);
  }
  if (names.length === 0 || names.includes(RUN_FILE)) return;
  const some = names.slice(0, 3).join(", ") + (names.length > 3 ? ", ..." : "");
  fail(`${directory} is not empty and holds no run: ${some}; name a new or an empty folder`);
}

/** @throws WS_INVALID_ARGUMENT when the run in the folder is another command's */
export async function checkRunCommand(directory: string, command: RunCommand): Promise<void> {
  const file = path.join(directory, RUN_FILE);
  const text = await readOptional(file);
  if (text === undefined) return; // a new run, or one that a program opened
  const madeBy = COMMANDS.find((each) => text === runFileText(each));
  if (madeBy === command) return;
  if (madeBy === undefined) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${file}: names no command; choose another folder`, { op: "createRun" });
  }
  const article = madeBy === "eval" ? "an" : "a";
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `${directory}: that is ${article} ${madeBy} run, ${command} cannot go on with it; choose another folder`,
    { op: "createRun", details: { directory, command, madeBy } },
  );
}

/** @throws WS_INVALID_ARGUMENT naming the settings that differ from those of the newest checkpoint in the folder */
export async function checkRunSettings(directory: string, config: RunConfig): Promise<void> {
  const checkpoint = await latestCheckpoint(path.join(directory, "checkpoints"));
  const hash = hashConfig(config);
  if (checkpoint === null || checkpoint.state.configHash === hash) return;
  const before = await loadConfig({ file: path.join(directory, CONFIG_FILE) });
  checkResumable(checkpoint, hash, config.run.seed, changedSettings(before, config));
}

/**
 * Finished episodes of an evaluation are only taken over by one that would have made the same.
 * @throws WS_INVALID_ARGUMENT naming the settings that differ from those of the evaluation in the folder, or would shrink it
 */
export async function checkEvaluationSettings(directory: string, config: RunConfig): Promise<void> {
  const file = path.join(directory, CONFIG_FILE);
  if ((await readOptional(file)) === undefined) return;
  const before = await loadConfig({ file });
  const shrunk = shrunkEvaluation(before, config);
  if (shrunk.length > 0) {
    const message = `${directory}: the evaluation there has more: ${shrunk.join(", ")}; take as many, or another folder`;
    throw new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "evaluate", details: { directory, shrunk } });
  }
  const changed = changedEvaluation(before, config);
  if (changed.length === 0) return;
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `${directory}: the evaluation there has other settings: ${changed.join(", ")}; take its own, or another folder`,
    { op: "evaluate", details: { directory, changed } },
  );
}

/** The first file of a run. */
export async function writeRunCommand(directory: string, command: RunCommand): Promise<void> {
  await writeAtomic(path.join(directory, RUN_FILE), runFileText(command));
}

function runFileText(command: RunCommand): string {
  return `${JSON.stringify({ command })}\n`;
}

async function list(directory: string): Promise<string[]> {
  return await atBoundary("WS_IO", `run folder ${directory} (--run-dir)`, async () => {
    return (await unlessMissing(() => readdir(directory))) ?? [];
  });
}

async function readOptional(file: string): Promise<string | undefined> {
  return await atBoundary("WS_IO", "createRun", () => unlessMissing(() => readFile(file, "utf8")));
}

async function unlessMissing<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    // ENOTDIR: a file is in the way, which making the folder tells better.
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
