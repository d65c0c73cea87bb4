import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RunLock } from "./run-lock.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-lock-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const leave = (owner: unknown): Promise<void> => writeFile(path.join(directory, "run.lock"), JSON.stringify(owner));
const listing = async (): Promise<string[]> => (await readdir(directory, { recursive: true })).sort();

describe("the lock of a run folder", () => {
  it("names its process, is held once, and goes at the end", async () => {
    await using lock = await RunLock.take(directory);
    expect(JSON.parse(await readFile(lock.file, "utf8"))).toEqual({ pid: process.pid, host: hostname() });
    await expect(RunLock.take(directory)).rejects.toMatchObject({
      code: "WS_INVALID_STATE",
      message: expect.stringContaining(`${directory} is being written by process ${process.pid};`),
    });
    await lock[Symbol.asyncDispose]();
    expect(await listing()).toEqual([]);
    await using _again = await RunLock.take(directory);
  });

  it("of a process that lives is respected", async () => {
    await leave({ pid: process.ppid, host: hostname() });
    await expect(RunLock.take(directory)).rejects.toThrow(`is being written by process ${process.ppid};`);
    expect(await listing()).toEqual(["run.lock"]);
  });

  it("of a dead process is taken over, also when that had our number", async () => {
    for (const pid of [spawnSync("true").pid, process.pid]) {
      await leave({ pid, host: hostname() });
      await using _lock = await RunLock.take(directory);
      expect(await listing()).toEqual(["run.lock"]);
    }
  });

  it("of another host, or unreadable, names the file to delete", async () => {
    const file = path.join(directory, "run.lock");
    await leave({ pid: 1, host: "elsewhere.example" });
    await expect(RunLock.take(directory)).rejects.toThrow(`process 1 on elsewhere.example`);
    await expect(RunLock.take(directory)).rejects.toThrow(`delete ${file}`);
    await leave("");
    await expect(RunLock.take(directory)).rejects.toThrow(`delete ${file}`);
  });

  it("takes the folders made for it along while they are empty", async () => {
    await (await RunLock.take(path.join(directory, "a/b/c")))[Symbol.asyncDispose]();
    expect(await listing()).toEqual([]);
    await mkdir(path.join(directory, "a"));
    const lock = await RunLock.take(path.join(directory, "a/b/c"));
    await writeFile(path.join(directory, "a/b/kept"), "");
    await lock[Symbol.asyncDispose]();
    expect(await listing()).toEqual(["a", "a/b", "a/b/kept"]);
  });

  it("says what is in the way of its folder, and makes nothing", async () => {
    await writeFile(path.join(directory, "file.txt"), "");
    for (const blocked of ["file.txt", "file.txt/a", "file.txt/a/b"]) {
      await expect(RunLock.take(path.join(directory, blocked))).rejects.toMatchObject({
        code: "WS_IO",
        message: expect.stringMatching(/\(--run-dir\): .*file\.txt is a file, not a folder/),
      });
    }
    expect(await listing()).toEqual(["file.txt"]);
  });

  it.runIf(process.platform === "linux")("does not wait for ever where no folder can be made", async () => {
    await expect(RunLock.take("/proc/wideseek/run")).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringContaining("run folder /proc/wideseek/run (--run-dir): /proc"),
    });
  });
});
