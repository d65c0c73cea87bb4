// Makes folders level by level and says what is in the way. Owns no content.
import { accessSync, constants, mkdirSync, rmdirSync, statSync } from "node:fs";
import path from "node:path";
import { errorMessage, WideSeekError } from "./errors.ts";

/**
 * Makes what is missing of `directory`; returns the folders it made, the deepest last. `where` names it in errors.
 * Node's recursive `mkdir` never ends under /proc, where a folder that is there refuses new ones as missing.
 * @throws WS_IO when a file is in the way or a folder cannot be written; nothing is made then
 */
export function makeFolder(directory: string, where: string = directory): string[] {
  const blocked = (problem: string, cause?: unknown): WideSeekError => {
    const message = `${where}: ${problem}; choose another folder`;
    return new WideSeekError("WS_IO", message, { op: "makeFolder", details: { directory }, cause });
  };
  const missing: string[] = [];
  let nearest = path.resolve(directory);
  try {
    for (; !isThere(nearest); nearest = path.dirname(nearest)) missing.unshift(nearest);
    if (!statSync(nearest).isDirectory()) throw blocked(`${nearest} is a file, not a folder`);
    accessSync(nearest, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw blocked(`${nearest} cannot be written: ${errorMessage(error)}`, error);
  }
  const made: string[] = [];
  for (const folder of missing) {
    try {
      mkdirSync(folder);
      made.push(folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") continue; // another process was faster
      removeIfEmpty(made);
      throw blocked(`${folder} cannot be made: ${errorMessage(error)}`, error);
    }
  }
  return made;
}

/** Removes folders as `makeFolder` returned them, from the deepest to the first that holds something. */
export function removeIfEmpty(folders: readonly string[]): void {
  for (const folder of folders.toReversed()) {
    try {
      rmdirSync(folder);
    } catch {
      return; // in use, so those above are too
    }
  }
}

function isThere(file: string): boolean {
  try {
    statSync(file);
    return true;
  } catch (error) {
    // ENOTDIR: a file lies further up.
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
