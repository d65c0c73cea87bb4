// Where a run stands on disk: atomic checkpoints and how to find the newest whole one. Owns no weights.
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { atBoundary, makeFolder, type Trainer, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { noRollouts, readRollouts, type StoredRollouts, writeRollouts } from "./rollout-store.ts";

const runStateSchema = z.strictObject({
  /** Steps done. */
  step: z.int().min(0),
  /** Tasks or traces drawn since the start of the run. */
  cursor: z.int().min(0),
  seed: z.number(),
  /** Decimal, because it is 64 bits wide. */
  policyVersion: z.string().regex(/^\d+$/),
  /** Settings that results depend on; a checkpoint continues only under the same. */
  configHash: z.string(),
});
export type RunState = z.infer<typeof runStateSchema>;

export interface Checkpoint {
  directory: string;
  state: RunState;
}

const DONE = "DONE";
const TEMPORARY = ".tmp-";

/** Saves to a temporary folder, flushes it, then renames: a checkpoint is whole or not there. */
export async function saveCheckpoint(
  directory: string,
  trainer: Pick<Trainer, "saveCheckpoint">,
  state: RunState,
  keep: number,
  rollouts: StoredRollouts = noRollouts(),
): Promise<string> {
  return await atBoundary("WS_IO", "saveCheckpoint", async () => {
    const name = checkpointName(state.step);
    const temporary = path.join(directory, `${TEMPORARY}${name}`);
    makeFolder(directory);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    await trainer.saveCheckpoint(path.join(temporary, "policy"));
    await writeFlushed(path.join(temporary, "state.json"), `${JSON.stringify(state, null, 2)}\n`);
    await writeRollouts(temporary, rollouts);
    await writeFlushed(path.join(temporary, DONE), "");
    await flushDirectory(temporary);
    const final = path.join(directory, name);
    await discard(final); // a rerun of the same step replaces what an interrupted deletion left
    await rename(temporary, final);
    await flushDirectory(directory);
    await removeOld(directory, keep);
    return final;
  });
}

/** The newest checkpoint with a DONE marker, or null. Removes what a kill left half-written. */
export async function latestCheckpoint(directory: string): Promise<Checkpoint | null> {
  const newest = (await completeCheckpoints(directory)).at(-1);
  if (!newest) return null;
  const file = path.join(newest, "state.json");
  return await atBoundary("WS_CORRUPT_FILE", `resume: ${file}`, async () => ({
    directory: newest,
    state: runStateSchema.parse(JSON.parse(await readFile(file, "utf8"))),
  }));
}

/** Folder that the trainer's own checkpoint lies in. */
export function policyDirectory(checkpoint: Checkpoint): string {
  return path.join(checkpoint.directory, "policy");
}

/** What had been sampled and not been trained on when the checkpoint was made. */
export async function checkpointRollouts({ directory }: Checkpoint): Promise<StoredRollouts> {
  return await atBoundary("WS_CORRUPT_FILE", `resume: ${directory}: rollouts`, () => readRollouts(directory));
}

/**
 * `changes`: a line for each setting that differs, as far as the caller knows them.
 * @throws WS_INVALID_ARGUMENT when the settings differ from those that the checkpoint was made with
 */
export function checkResumable(
  { directory, state }: Checkpoint,
  configHash: string,
  seed: number,
  changes: readonly string[] = [],
): void {
  if (state.configHash === configHash && state.seed === seed) return;
  const list = changes.length === 0 ? "" : ` (${changes.join(", ")})`;
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `resume: ${directory} was made with other settings${list}; resume without changing what results depend on, ` +
      "or start a new run",
    { op: "resume", details: { directory, got: configHash, expected: state.configHash, changes } },
  );
}

/** Deletes temporary folders of a killed process. */
export async function removeTemporary(directory: string): Promise<void> {
  for (const name of await list(directory)) {
    if (name.startsWith(TEMPORARY)) await rm(path.join(directory, name), { recursive: true, force: true });
  }
}

/** Creates or replaces a file so that a reader sees the old or the new text, never half of it. */
export async function writeAtomic(file: string, text: string): Promise<void> {
  const temporary = path.join(path.dirname(file), `${TEMPORARY}${path.basename(file)}`);
  await writeFlushed(temporary, text);
  await rename(temporary, file);
  await flushDirectory(path.dirname(file));
}

async function completeCheckpoints(directory: string): Promise<string[]> {
  const names = (await list(directory)).filter((name) => /^step-\d{8}$/.test(name)).sort();
  const folders = names.map((name) => path.join(directory, name));
  const complete = await Promise.all(folders.map((folder) => exists(path.join(folder, DONE))));
  return folders.filter((_, index) => complete[index]);
}

async function removeOld(directory: string, keep: number): Promise<void> {
  for (const folder of (await completeCheckpoints(directory)).slice(0, -keep)) await discard(folder);
}

/** Renamed before it is deleted, so that a kill in between cannot leave a marked checkpoint without its files. */
async function discard(folder: string): Promise<void> {
  if (!(await exists(folder))) return;
  const doomed = path.join(path.dirname(folder), `${TEMPORARY}old-${path.basename(folder)}`);
  await rm(doomed, { recursive: true, force: true });
  await rename(folder, doomed);
  await rm(doomed, { recursive: true, force: true });
}

function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

async function list(directory: string): Promise<string[]> {
  return (await exists(directory)) ? await readdir(directory) : [];
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function writeFlushed(file: string, text: string): Promise<void> {
  await writeFile(file, text, { flush: true });
}

async function flushDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
