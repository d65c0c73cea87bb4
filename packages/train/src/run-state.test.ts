import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkResumable, latestCheckpoint, removeTemporary, saveCheckpoint } from "./run-state.ts";
import { FakeTrainer } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const state = (step: number) => ({ step, cursor: step * 4, seed: 7, policyVersion: String(step), configHash: "abc" });
const save = (step: number, keep = 2) => saveCheckpoint(directory, new FakeTrainer(), state(step), keep);

describe("checkpoints", () => {
  it("keeps the newest and gives back what was saved", async () => {
    for (const step of [1, 2, 10]) await save(step);
    expect((await readdir(directory)).sort()).toEqual(["step-00000002", "step-00000010"]);
    expect((await latestCheckpoint(directory))?.state).toEqual(state(10));
  });

  it("sees neither a checkpoint without its marker nor a temporary folder", async () => {
    await save(1);
    await mkdir(path.join(directory, "step-00000002", "policy"), { recursive: true });
    await mkdir(path.join(directory, ".tmp-step-00000003"));
    expect((await latestCheckpoint(directory))?.state.step).toBe(1);
    await removeTemporary(directory);
    expect(existsSync(path.join(directory, ".tmp-step-00000003"))).toBe(false);
  });

  it("leaves nothing that counts when saving the weights fails", async () => {
    await save(1);
    const broken = { saveCheckpoint: () => Promise.reject(new Error("disk full")) };
    await expect(saveCheckpoint(directory, broken, state(2), 2)).rejects.toMatchObject({ code: "WS_IO" });
    expect((await latestCheckpoint(directory))?.state.step).toBe(1);
  });

  it("replaces a half-written folder of the same step", async () => {
    await mkdir(path.join(directory, "step-00000002", "policy"), { recursive: true });
    await save(2);
    expect((await latestCheckpoint(directory))?.state.step).toBe(2);
  });

  it("has none in an empty or missing folder", async () => {
    expect(await latestCheckpoint(directory)).toBeNull();
    expect(await latestCheckpoint(path.join(directory, "missing"))).toBeNull();
  });

  it("names a corrupt state file", async () => {
    await save(1);
    await writeFile(path.join(directory, "step-00000001", "state.json"), "{");
    await expect(latestCheckpoint(directory)).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: expect.stringContaining("state.json"),
    });
  });

  it("continues only under the same settings and seed", async () => {
    await save(1);
    const checkpoint = await latestCheckpoint(directory);
    if (!checkpoint) throw new Error("no checkpoint");
    checkResumable(checkpoint, "abc", 7);
    expect(() => checkResumable(checkpoint, "abd", 7)).toThrow(/other settings/);
    expect(() => checkResumable(checkpoint, "abc", 8)).toThrow(/other settings;/);
    const changes = ["a: 1 -> 2", "b: 3 -> 4"];
    expect(() => checkResumable(checkpoint, "abd", 7, changes)).toThrow(/other settings \(a: 1 -> 2, b: 3 -> 4\);/);
  });
});
