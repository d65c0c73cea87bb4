// Which process writes a run folder: one at a time, named in run.lock. Owns that file and no other.
import { readFile, realpath, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { atBoundary, makeFolder, removeIfEmpty, WideSeekError } from "@wideseek/spec";
import { z } from "zod";

const LOCK_FILE = "run.lock";

const ownerSchema = z.object({ pid: z.int().min(1), host: z.string() });
type Owner = z.output<typeof ownerSchema>;

/** Locks of this process. One with our pid that is not here was left by a dead process that had the same number. */
const held = new Set<string>();

export class RunLock implements AsyncDisposable {
  readonly file: string;
  /** Folders made for the lock; they go with it while they are empty. */
  readonly #made: readonly string[];

  private constructor(file: string, made: readonly string[]) {
    this.file = file;
    this.#made = made;
  }

  /**
   * Makes `directory` where it is missing and locks it. The lock of a process that was killed is taken over.
   * @throws WS_INVALID_STATE when another process writes there, WS_IO when the folder cannot be made or written
   */
  static async take(directory: string): Promise<RunLock> {
    const made = makeFolder(directory, `run folder ${directory} (--run-dir)`);
    return await atBoundary("WS_IO", `run folder ${directory} (--run-dir)`, async () => {
      const file = path.join(await realpath(directory), LOCK_FILE);
      while (!(await create(file))) {
        const text = await readOptional(file);
        if (text === undefined) continue; // given back in between
        checkDead(directory, file, text);
        await discard(file, text);
      }
      held.add(file);
      return new RunLock(file, made);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!held.delete(this.file)) return;
    await rm(this.file, { force: true });
    removeIfEmpty(this.#made);
  }
}

/** False when the file is there. */
async function create(file: string): Promise<boolean> {
  try {
    await writeFile(file, `${JSON.stringify({ pid: process.pid, host: hostname() })}\n`, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** @throws WS_INVALID_STATE unless the owner is known to be dead */
function checkDead(directory: string, file: string, text: string): void {
  const owner = parseOwner(text);
  const problem = problemOf(owner, file);
  if (problem === undefined) return;
  const details = { directory, file, ...owner };
  throw new WideSeekError("WS_INVALID_STATE", `${directory} is ${problem}`, { op: "run", details });
}

function problemOf(owner: Owner | undefined, file: string): string | undefined {
  const hint = `if no process writes there, delete ${file}`;
  if (owner === undefined) return `locked by a file that cannot be read; ${hint}`;
  const { pid, host } = owner;
  const writer = `being written by process ${pid}`;
  if (host !== hostname()) return `${writer} on ${host}, which cannot be asked from here; ${hint}`;
  const lives = pid === process.pid ? held.has(file) : isAlive(pid);
  return lives ? `${writer}; wait for its end or choose another folder` : undefined;
}

function parseOwner(text: string): Owner | undefined {
  try {
    return ownerSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // EPERM: it is another user's
  }
}

/** Removes a dead lock, and only that one: a process that was faster may have put its own in the place meanwhile. */
async function discard(file: string, text: string): Promise<void> {
  const doomed = `${file}.${process.pid}`;
  try {
    await rename(file, doomed);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if ((await readOptional(doomed)) === text) await rm(doomed, { force: true });
  else await rename(doomed, file);
}

async function readOptional(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
