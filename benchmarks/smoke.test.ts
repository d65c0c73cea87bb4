// Every benchmark runs at toy size and its records have the fields that BENCHMARKS.md is made from.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "./record.ts";
import { readRecords } from "./render.ts";

test("bench --smoke records every benchmark", () => {
  const directory = mkdtempSync(join(tmpdir(), "bench-smoke-"));
  try {
    const args = ["--conditions=@wideseek/source", "--import", "tsx", "benchmarks/main.ts", "--", "--smoke"];
    execFileSync(process.execPath, [...args, "--out", directory], { cwd: repositoryRoot, stdio: "pipe" });
    const records = readRecords(directory);
    const names = records.map((record) => record.name);
    for (const name of ["cpu.prefill32", "cpu.decode4", "cpu.train_step", "cpu.logprob", "cpu.grpo_step"]) {
      expect(names).toContain(name);
    }
    for (const { value, min, max, n, commit, device } of records) {
      expect(min).toBeLessThanOrEqual(value);
      expect(value).toBeLessThanOrEqual(max);
      expect(n).toBeGreaterThan(0);
      expect(commit).toMatch(/^[0-9a-f]{12}$/);
      expect(device).not.toBe("");
    }
    expect(records.find((record) => record.name === "onpolicy.cpu.max_abs_diff")?.value).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
