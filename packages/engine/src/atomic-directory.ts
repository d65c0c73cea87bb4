// Makes a directory appear whole or not at all: written beside its place, flushed to disk, then renamed.
import { randomUUID } from "node:crypto";
import { lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { errorMessage, makeFolder, WideSeekError } from "@wideseek/spec";

/**
 * Calls `write` with an empty temporary directory, then moves it to `directory`.
 * @throws WS_INVALID_ARGUMENT if `directory` exists, WS_IO; nothing is left behind
 */
export async function writeDirectory(directory: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const target = resolve(directory);
  const parent = dirname(target);
  if (await exists(target)) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${directory}: already exists; nothing is ever overwritten`, {
      details: { path: directory },
    });
  }
  const temporary = join(parent, `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    makeFolder(parent, directory);
    await mkdir(temporary);
    await write(temporary);
    for (const name of await readdir(temporary)) await sync(join(temporary, name));
    await sync(temporary);
    await rename(temporary, target);
    await sync(parent);
  } catch (error) {
    // What failed first is what the caller must hear of, not that cleaning up failed too.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError("WS_IO", `${directory}: ${errorMessage(error)}`, {
      details: { path: directory },
      cause: error,
    });
  }
}

/** Also a directory: its entries survive a power failure only once it is synced itself. */
async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}
