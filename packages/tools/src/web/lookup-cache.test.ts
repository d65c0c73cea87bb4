// The cache on disk: what it keeps and for how long, files that are none, and several processes at once.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { WideSeekError } from "@wideseek/spec";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LookupCache, lookupKey } from "./lookup-cache.ts";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-cache-"));
  file = path.join(directory, "deep", "web.sqlite");
});
afterEach(() => rmSync(directory, { recursive: true }));

const limits = { maxBytes: 2 ** 20, maxAgeSeconds: 100 };

test("what was put in comes out, until it is too old", () => {
  let now = 1000;
  using cache = LookupCache.open(file, { ...limits, now: () => now });
  cache.put(lookupKey("a", 1), { text: "蓝" });
  expect(cache.get(lookupKey("a", 1))).toEqual({ text: "蓝" });
  expect(cache.get(lookupKey("a", 2))).toBeUndefined();
  now = 1100;
  expect(cache.get(lookupKey("a", 1))).toBeDefined();
  now = 1101;
  expect(cache.get(lookupKey("a", 1))).toBeUndefined();
  cache.put(lookupKey("a", 1), { text: "new" });
  expect(cache.get(lookupKey("a", 1))).toEqual({ text: "new" });
});

test("parts of a key do not run into each other", () => {
  expect(lookupKey("a", "bc")).not.toEqual(lookupKey("ab", "c"));
  expect(lookupKey("a", 1)).not.toEqual(lookupKey("a", "1"));
});

test("stays within its size: what was not used longest goes, what is too large never comes in", () => {
  let now = 0;
  using cache = LookupCache.open(file, { maxBytes: 100_000, maxAgeSeconds: 1e9, now: () => now });
  for (let n = 0; n < 300; n += 1) {
    now += 4000;
    cache.put(lookupKey(n), "x".repeat(1000));
    cache.get(lookupKey(0));
  }
  const kept = Array.from({ length: 300 }, (_, n) => n).filter((n) => cache.get(lookupKey(n)) !== undefined);
  expect(kept.length).toBeLessThan(100);
  expect(kept).toContain(299);
  expect(kept).toContain(0);
  expect(kept).not.toContain(1);
  cache.put(lookupKey("large"), "x".repeat(50_000));
  expect(cache.get(lookupKey("large"))).toBeUndefined();
});

test.each([
  ["a text file", () => writeFileSync(file, "hello, this is no database at all\n".repeat(50))],
  [
    "a database of something else",
    () => {
      const other = new DatabaseSync(file);
      other.exec("CREATE TABLE precious(a); INSERT INTO precious VALUES (1)");
      other.close();
    },
  ],
  [
    "another version",
    () => {
      LookupCache.open(file, limits)[Symbol.dispose]();
      const other = new DatabaseSync(file);
      other.exec("PRAGMA user_version = 99");
      other.close();
    },
  ],
  [
    "a file that was cut",
    () => {
      LookupCache.open(file, limits)[Symbol.dispose]();
      writeFileSync(file, readFileSync(file).subarray(0, 5000));
    },
  ],
])("%s is one clear error, and stays as it was", (_, make) => {
  LookupCache.open(path.join(directory, "deep", "other.sqlite"), limits)[Symbol.dispose]();
  make();
  const before = readFileSync(file);
  const error = (() => {
    try {
      LookupCache.open(file, limits);
    } catch (reason) {
      return reason;
    }
  })();
  expect(error).toBeInstanceOf(WideSeekError);
  expect(error).toMatchObject({
    code: "WS_CORRUPT_FILE",
    message: expect.stringContaining("delete it, or name another file"),
  });
  expect((error as Error).message).toContain(file);
  expect(readFileSync(file).equals(before)).toBe(true);
});

test("a folder in its place is an error, a closed cache only misses", () => {
  expect(() => LookupCache.open(directory, limits)).toThrow(/cannot open the cache/);
  const cache = LookupCache.open(file, limits);
  cache[Symbol.dispose]();
  cache[Symbol.dispose]();
  cache.put(lookupKey("a"), 1);
  expect(cache.get(lookupKey("a"))).toBeUndefined();
  expect(statSync(file).size).toBeGreaterThan(0);
});

test("several processes read and write it at once, and nothing is mixed up or lost", async () => {
  const script = path.join(import.meta.dirname, "testing", "cache-process.ts");
  const start = async (number: number): Promise<Record<string, number>> => {
    const node = ["--conditions=@wideseek/source", script, file, `${number}`, "150"];
    return JSON.parse((await promisify(execFile)(process.execPath, node)).stdout);
  };
  const results = await Promise.all([0, 1, 2, 3].map(start));
  for (const { numWrong, numKept, numSkipped } of results) {
    expect(numWrong).toBe(0);
    // A write is left out when another process held the file too long; nothing else may be missing.
    expect(numKept).toBeGreaterThanOrEqual(150 - (numSkipped ?? 0));
  }
  using cache = LookupCache.open(file, limits);
  for (let number = 0; number < 4; number += 1) expect(cache.get(lookupKey("own", `${number}`, 149))).toBeDefined();
});
