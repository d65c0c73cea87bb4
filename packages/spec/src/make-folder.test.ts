import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeFolder, removeIfEmpty } from "./make-folder.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "wideseek-folder-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test("makes what is missing, and removes as much", () => {
  const made = makeFolder(join(root, "a", "b"));
  expect(made).toEqual([join(root, "a"), join(root, "a", "b")]);
  expect(makeFolder(join(root, "a", "b"))).toEqual([]);
  writeFileSync(join(root, "a", "file"), "");
  removeIfEmpty(made);
  expect([existsSync(join(root, "a")), existsSync(join(root, "a", "b"))]).toEqual([true, false]);
});

test("a file in the way is one error", () => {
  writeFileSync(join(root, "file"), "");
  expect(() => makeFolder(join(root, "file", "b"), "--out x")).toThrow(
    `--out x: ${join(root, "file")} is a file, not a folder; choose another folder`,
  );
});

test.runIf(process.platform === "linux")("ends under /proc, where Node's recursive mkdir never does", () => {
  expect(() => makeFolder("/proc/wideseek/a")).toThrow(/^\/proc\/wideseek\/a: .*choose another folder$/);
});
