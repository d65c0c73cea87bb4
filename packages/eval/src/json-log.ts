// An append-only JSONL file that survives a kill: whole lines are kept, a cut last line is dropped. Owns no schema.
import { createReadStream } from "node:fs";
import { type FileHandle, open, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { atBoundary, errorMessage, makeFolder, WideSeekError } from "@wideseek/spec";

export class JsonLog implements AsyncDisposable {
  /** Whole lines that were there at opening. */
  readonly numLines: number;
  readonly #file: FileHandle;
  // Appends go one after another, so that two episodes ending together never interleave their lines.
  #pending: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle, numLines: number) {
    this.#file = file;
    this.numLines = numLines;
  }

  /**
   * Opens or creates the file and shows every whole line to `visit`, one at a time: the file may be larger than memory.
   * @throws WS_CORRUPT_FILE with the line number, WS_IO, what `visit` throws
   */
  static async open(path: string, visit: (value: unknown, where: string, index: number) => void): Promise<JsonLog> {
    makeFolder(dirname(path));
    const file = await atBoundary("WS_IO", "evaluate", () => open(path, "a"));
    try {
      let numLines = 0;
      const numWholeBytes = await forEachWholeLine(path, (line) => {
        const where = `${path}:${numLines + 1}`;
        visit(parseLine(line, where, path), where, numLines++);
      });
      const { size } = await atBoundary("WS_IO", "evaluate", () => file.stat());
      if (numWholeBytes < size) await atBoundary("WS_IO", "evaluate", () => truncate(path, numWholeBytes));
      return new JsonLog(file, numLines);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  append(value: unknown): Promise<void> {
    const line = `${JSON.stringify(value)}\n`;
    const written = this.#pending.then(() => atBoundary("WS_IO", "evaluate", () => this.#file.writeFile(line)));
    // The failure belongs to the caller of this append; the next one reports its own.
    this.#pending = written.catch(() => undefined);
    return written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pending;
    await this.#file.close();
  }
}

/** @returns the bytes of all lines that end in a newline; `visit` gets each of them and where it begins */
export async function forEachWholeLine(path: string, visit: (line: string, offset: number) => void): Promise<number> {
  let numWholeBytes = 0;
  let rest: Buffer[] = [];
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      const line = Buffer.concat([...rest, chunk.subarray(start, end)]);
      rest = [];
      start = end + 1;
      visit(line.toString("utf8"), numWholeBytes);
      numWholeBytes += line.length + 1;
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  return numWholeBytes;
}

function parseLine(line: string, where: string, path: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${where}: ${errorMessage(error)}; delete the file to start over`, {
      op: "evaluate",
      details: { path, where },
      cause: error,
    });
  }
}
