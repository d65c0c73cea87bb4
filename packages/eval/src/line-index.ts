// Finds lines of a JSONL file again by a key, holding only where they are: the file may be larger than memory.
import { existsSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { atBoundary } from "@wideseek/spec";
import { forEachWholeLine } from "./json-log.ts";

interface Place {
  offset: number;
  numBytes: number;
}

export class LineIndex implements AsyncDisposable {
  readonly #places: ReadonlyMap<string, Place>;
  readonly #file: FileHandle | undefined;

  private constructor(places: ReadonlyMap<string, Place>, file: FileHandle | undefined) {
    this.#places = places;
    this.#file = file;
  }

  /**
   * Of several lines with one key the last counts; a line without a key is skipped, and a missing file has no lines.
   * @throws WS_IO, and what is wrong with a line that is no JSON
   */
  static async open(path: string, keyOf: (value: unknown) => string | undefined): Promise<LineIndex> {
    const places = new Map<string, Place>();
    if (!existsSync(path)) return new LineIndex(places, undefined);
    return await atBoundary("WS_IO", "LineIndex.open", async () => {
      await forEachWholeLine(path, (line, offset) => {
        const key = keyOf(JSON.parse(line));
        if (key !== undefined) places.set(key, { offset, numBytes: Buffer.byteLength(line) });
      });
      return new LineIndex(places, await open(path, "r"));
    });
  }

  /** Undefined when no line has the key. */
  async read(key: string): Promise<unknown> {
    const place = this.#places.get(key);
    if (place === undefined || this.#file === undefined) return undefined;
    const bytes = Buffer.alloc(place.numBytes);
    const file = this.#file;
    await atBoundary("WS_IO", "LineIndex.read", () => file.read(bytes, 0, bytes.length, place.offset));
    return JSON.parse(bytes.toString("utf8"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
  }
}
