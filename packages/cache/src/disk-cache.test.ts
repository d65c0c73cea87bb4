// The cache on disk: what it keeps and for how long, files that are none, and several processes at once.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { WideSeekError } from "@wideseek/spec";
import { afterEach, beforeEach, expect, test } from "vitest";
import { contentKey, DiskCache } from "./disk-cache.ts";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-cache-"));
  file = path.join(directory, "deep", "web.sqlite");
});
afterEach(() => rmSync(directory, { recursive: true }));

const limits = { contents: "pages", maxBytes: 2 ** 20, maxAgeSeconds: 100 };

test("what was put in comes out, until it is too old", () => {
  let now = 1000;
  using cache = DiskCache.open(file, { ...limits, now: () => now });
  cache.put(contentKey(["a", 1]), { text: "蓝" });
  expect(cache.get(contentKey(["a", 1]))).toEqual({ text: "蓝" });
  expect(cache.get(contentKey(["a", 2]))).toBeUndefined();
  now = 1100;
  expect(cache.get(contentKey(["a", 1]))).toBeDefined();
  now = 1101;
  expect(cache.get(contentKey(["a", 1]))).toBeUndefined();
  cache.put(contentKey(["a", 1]), { text: "new" });
  expect(cache.get(contentKey(["a", 1]))).toEqual({ text: "new" });
});

test("parts of a key do not run into each other, and the order of names does not matter", () => {
  expect(contentKey(["a", "bc"])).not.toEqual(contentKey(["ab", "c"]));
  expect(contentKey(["a", 1])).not.toEqual(contentKey(["a", "1"]));
  expect(contentKey({ a: 1, b: { d: 1, c: 2 } })).toEqual(contentKey({ b: { c: 2, d: 1 }, a: 1 }));
});

test("stays within its size: what was not used longest goes, what is too large never comes in", () => {
  let now = 0;
  using cache = DiskCache.open(file, { contents: "pages", maxBytes: 100_000, maxAgeSeconds: 1e9, now: () => now });
  for (let n = 0; n < 1000; n += 1) {
    now += 4000;
    cache.put(contentKey([n]), "x".repeat(1000));
    cache.get(contentKey([0]));
  }
  const kept = Array.from({ length: 1000 }, (_, n) => n).filter((n) => cache.get(contentKey([n])) !== undefined);
  expect(kept.length).toBeLessThan(100);
  expect(kept).toContain(999);
  expect(kept).toContain(0);
  expect(kept).not.toContain(1);
  expect(statSync(file).size).toBeLessThan(600_000);
  cache.put(contentKey(["large"]), "x".repeat(50_000));
  expect(cache.get(contentKey(["large"]))).toBeUndefined();
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
  ["a cache of something else", () => DiskCache.open(file, { ...limits, contents: "replies" })[Symbol.dispose]()],
  [
    "another version",
    () => {
      DiskCache.open(file, limits)[Symbol.dispose]();
      const other = new DatabaseSync(file);
      other.exec("PRAGMA user_version = 99");
      other.close();
    },
  ],
  [
    "a file that was cut",
    () => {
      DiskCache.open(file, limits)[Symbol.dispose]();
      writeFileSync(file, readFileSync(file).subarray(0, 5000));
    },
  ],
])("%s is one clear error, and stays as it was", (_, make) => {
  DiskCache.open(path.join(directory, "deep", "other.sqlite"), limits)[Symbol.dispose]();
  make();
  const before = readFileSync(file);
  const error = (() => {
    try {
      DiskCache.open(file, limits);
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
  expect(() => DiskCache.open(directory, limits)).toThrow(/cannot open the cache/);
  expect(() => DiskCache.open(file, { ...limits, maxBytes: 0 })).toThrow(/maxBytes is 0/);
  const cache = DiskCache.open(file, limits);
  cache[Symbol.dispose]();
  cache[Symbol.dispose]();
  cache.put(contentKey(["a"]), 1);
  expect(cache.get(contentKey(["a"]))).toBeUndefined();
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
  using cache = DiskCache.open(file, limits);
  for (let number = 0; number < 4; number += 1) expect(cache.get(contentKey(["own", `${number}`, 149]))).toBeDefined();
});
