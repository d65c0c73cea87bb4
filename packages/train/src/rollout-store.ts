// Rollouts that a checkpoint keeps: batches sampled ahead and groups with paused episodes, as JSON lines. Owns no files
// but this one.
import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Rollout, RolloutFacts, RolloutGroup } from "./rollout.ts";

/** What has been sampled and not been trained on. */
export interface StoredRollouts {
  /** Groups that are not whole. */
  carried: readonly RolloutGroup[];
  /** The next step's batch. */
  ready: Omit<Rollout, "next"> | null;
}

const ROLLOUTS_FILE = "rollouts.jsonl";

/** One line a group: together they may be longer than any string. */
type Line = { kind: "ready"; facts: RolloutFacts } | { kind: "ready-group" | "carried"; group: RolloutGroup };

export function noRollouts(): StoredRollouts {
  return { carried: [], ready: null };
}

/** Writes and flushes a file in `directory`; none when nothing is stored. */
export async function writeRollouts(directory: string, { carried, ready }: StoredRollouts): Promise<void> {
  if (carried.length === 0 && ready === null) return;
  await using file = await open(path.join(directory, ROLLOUTS_FILE), "w");
  if (ready !== null) {
    await writeLine(file, { kind: "ready", facts: ready.facts });
    for (const group of ready.groups) await writeLine(file, { kind: "ready-group", group });
  }
  for (const group of carried) await writeLine(file, { kind: "carried", group });
  await file.sync();
}

/** The exact values that were written; nothing when there is no file. */
export async function readRollouts(directory: string): Promise<StoredRollouts> {
  const carried: RolloutGroup[] = [];
  const readyGroups: RolloutGroup[] = [];
  let facts: RolloutFacts | null = null;
  try {
    const input = createReadStream(path.join(directory, ROLLOUTS_FILE));
    for await (const text of createInterface({ input })) {
      const line = JSON.parse(text, revive) as Line;
      if (line.kind === "ready") facts = line.facts;
      else (line.kind === "carried" ? carried : readyGroups).push(line.group);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return { carried, ready: facts && { groups: readyGroups, facts } };
}

async function writeLine(file: FileHandle, line: Line): Promise<void> {
  await file.appendFile(`${JSON.stringify(line, replace)}\n`);
}

const INTEGER = "$bigint";
const INT32 = "$int32";
const FLOAT32 = "$float32";

function replace(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return { [INTEGER]: value.toString() };
  if (value instanceof Int32Array) return { [INT32]: base64(value) };
  if (value instanceof Float32Array) return { [FLOAT32]: base64(value) };
  return value;
}

function revive(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  const [[key, text] = [], ...others] = Object.entries(value);
  if (typeof text !== "string" || others.length > 0) return value;
  if (key === INTEGER) return BigInt(text);
  if (key === INT32) return new Int32Array(bytes(text));
  if (key === FLOAT32) return new Float32Array(bytes(text));
  return value;
}

function base64({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

/** In a buffer of its own, for typed arrays begin at multiples of their elements. */
function bytes(text: string): ArrayBuffer {
  return Uint8Array.from(Buffer.from(text, "base64")).buffer;
}
