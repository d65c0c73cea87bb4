// The growing files of a run: JSONL rows with a step, and the TensorBoard file made from the metrics.
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { makeFolder } from "@wideseek/spec";
import { fileVersionRecord, scalarRecord } from "./tensorboard.ts";

/** Rows in the order of `step`, one JSON object a line. */
export class JsonlFile {
  readonly path: string;
  readonly #handle: FileHandle;

  private constructor(file: string, handle: FileHandle) {
    this.path = file;
    this.#handle = handle;
  }

  /** Opens for appending and drops every row after `lastStep`, and a torn last line, so that rows are written once. */
  static async open(file: string, lastStep: number): Promise<JsonlFile> {
    makeFolder(path.dirname(file));
    const handle = await open(file, "a");
    await handle.truncate(await lengthUpTo(file, lastStep));
    return new JsonlFile(file, handle);
  }

  async append(rows: readonly unknown[]): Promise<void> {
    if (rows.length > 0) await this.#handle.appendFile(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }

  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Bytes of the whole rows with `step` <= lastStep at the beginning of the file. */
async function lengthUpTo(file: string, lastStep: number): Promise<number> {
  let length = 0;
  const { size } = await stat(file);
  const input = createReadStream(file);
  try {
    for await (const line of createInterface({ input })) {
      const end = length + Buffer.byteLength(line) + 1;
      const step = stepOf(line);
      if (end > size || step === undefined || step > lastStep) break;
      length = end;
    }
  } finally {
    input.destroy();
  }
  return length;
}

function stepOf(line: string): number | undefined {
  try {
    const row: unknown = JSON.parse(line);
    const step = row !== null && typeof row === "object" && "step" in row ? row.step : undefined;
    return typeof step === "number" ? step : undefined;
  } catch {
    return undefined; // torn by a kill in the middle of a write
  }
}

/** All rows of a JSONL file; empty when there is none. */
export async function readRows<T>(file: string): Promise<T[]> {
  try {
    const lines = (await readFile(file, "utf8")).split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line) as T);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** A step's numbers under TensorBoard tags ("reward/mean"). */
export interface MetricsRow {
  step: number;
  /** Seconds since 1970. */
  time: number;
  [tag: string]: number;
}

/** An event file that always says the same as the metrics rows: written anew from them when a run is resumed. */
export class EventFile {
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  static async create(directory: string, rows: readonly MetricsRow[]): Promise<EventFile> {
    await rm(directory, { recursive: true, force: true });
    makeFolder(directory);
    const seconds = Date.now() / 1000;
    const handle = await open(path.join(directory, `events.out.tfevents.${Math.floor(seconds)}.wideseek`), "a");
    const file = new EventFile(handle);
    await handle.appendFile(fileVersionRecord(seconds));
    await file.append(rows);
    return file;
  }

  async append(rows: readonly MetricsRow[]): Promise<void> {
    const records = rows.map(({ step, time, ...scalars }) => scalarRecord({ step, wallTime: time, scalars }));
    if (records.length > 0) await this.#handle.appendFile(Buffer.concat(records));
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
