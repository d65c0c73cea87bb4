// Makes a folder level by level and says what is in the way. Owns no content.
import { constants } from "node:fs";
import { access, mkdir, rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";

/**
 * Makes what is missing of `directory`; returns the folders it made, the deepest last.
 * @throws WS_IO when a file is in the way or a folder cannot be written; nothing is made then
 */
export async function makeFolder(directory: string): Promise<string[]> {
  const missing: string[] = [];
  let nearest = path.resolve(directory);
  const where = `run folder ${directory} (--run-dir)`;
  return await atBoundary("WS_IO", where, async () => {
    let found = await statOrMissing(nearest);
    while (found === undefined) {
      missing.unshift(nearest);
      nearest = path.dirname(nearest);
      found = await statOrMissing(nearest);
    }
    if (!found.isDirectory()) throw blocked(where, `${nearest} is a file, not a folder`, directory);
    await access(nearest, constants.W_OK | constants.X_OK).catch((error: unknown) => {
      throw blocked(where, `${nearest} cannot be written: ${errorMessage(error)}`, directory);
    });
    const made: string[] = [];
    // Not `recursive`: under /proc, where a folder that is there refuses new ones as missing, that never ends.
    for (const folder of missing) {
      try {
        await mkdir(folder);
        made.push(folder);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EEXIST") continue; // another process was faster
        await removeIfEmpty(made);
        throw blocked(where, `${folder} cannot be made: ${errorMessage(error)}`, directory);
      }
    }
    return made;
  });
}

/** Removes folders as `makeFolder` returned them, from the deepest to the first that holds something. */
export async function removeIfEmpty(folders: readonly string[]): Promise<void> {
  for (const folder of folders.toReversed()) {
    try {
      await rmdir(folder);
    } catch {
      return; // in use, so those above are too
    }
  }
}

async function statOrMissing(file: string): Promise<Awaited<ReturnType<typeof stat>> | undefined> {
  try {
    return await stat(file);
  } catch (error) {
    // ENOTDIR: a file lies further up; the walk finds it.
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

function blocked(where: string, problem: string, directory: string): WideSeekError {
  return new WideSeekError("WS_IO", `${where}: ${problem}; choose another folder`, {
    op: "run",
    details: { directory },
  });
}
