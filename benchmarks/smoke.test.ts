// Every benchmark runs at toy size and its records have the fields that BENCHMARKS.md is made from.
import { execFileSync, spawnSync } from "node:child_process";
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
    for (const name of [
      "cpu.prefill32",
      "cpu.decode4",
      "cpu.train_step",
      "cpu.logprob",
      "cpu.grpo_step",
      "cpu.rollout.busy_share",
      "cpu.rollout.synthetic.step_seconds",
      "forest.embedded.speedup",
      "cpu.prefix_sharing.prefill_speedup",
      "cpu.agent_tree.decode_speedup",
    ]) {
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

test("bench --device cuda runs on the GPU, or says in one line why it cannot; auto says why it took the CPU", () => {
  const bench = (device: string) =>
    spawnSync(
      process.execPath,
      [
        "--conditions=@wideseek/source",
        "--import",
        "tsx",
        "benchmarks/main.ts",
        "onpolicy",
        "--smoke",
        "--device",
        device,
      ],
      { cwd: repositoryRoot, encoding: "utf8" },
    );
  const cuda = bench("cuda");
  const auto = bench("auto");
  expect(auto.status).toBe(0);
  if (cuda.status === 0) {
    expect(cuda.stdout).toContain("onpolicy.gpu.max_abs_diff");
    expect(auto.stdout).toContain("onpolicy.gpu.max_abs_diff");
    return;
  }
  expect(cuda.status).toBe(2);
  expect(cuda.stdout).toBe("");
  expect(cuda.stderr).toMatch(/^error: --device cuda: .+\n$/);
  expect(auto.stdout).toContain("onpolicy.cpu.max_abs_diff");
  expect(auto.stderr).toMatch(/^running on the CPU: .+\n$/);
});
