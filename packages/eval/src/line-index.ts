// Finds lines of a JSONL file again by a key, holding only where they are: the file may be larger than memory.
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { atBoundary, errorMessage, WideSeekError } from "@wideseek/spec";
import { forEachWholeLine } from "./json-log.ts";

interface Place {
  offset: number;
  numBytes: number;
}

/** Lines are read at once: whoever reads them one after another has nothing else to do. */
export class LineIndex implements Disposable {
  readonly #places: ReadonlyMap<string, Place>;
  readonly #file: number | undefined;

  private constructor(places: ReadonlyMap<string, Place>, file: number | undefined) {
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
      return new LineIndex(places, openSync(path, "r"));
    });
  }

  /** Undefined when no line has the key. @throws WS_IO */
  read(key: string): unknown {
    const place = this.#places.get(key);
    if (place === undefined || this.#file === undefined) return undefined;
    const bytes = Buffer.alloc(place.numBytes);
    try {
      readSync(this.#file, bytes, 0, bytes.length, place.offset);
    } catch (error) {
      throw new WideSeekError("WS_IO", `LineIndex.read: ${errorMessage(error)}`, {
        op: "LineIndex.read",
        cause: error,
      });
    }
    return JSON.parse(bytes.toString("utf8"));
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }
}
