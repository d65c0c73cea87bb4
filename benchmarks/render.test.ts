import { expect, test } from "vitest";
import { figures, gpuGoals, isFigure } from "./figures.ts";
import type { BenchmarkRecord } from "./record.ts";
import { renderBenchmarks } from "./render.ts";

function record(name: string, value: number, date: string): BenchmarkRecord {
  const facts = { device: "CPU", threads: 2, commit: "abc", dirty: true, command: "pnpm run bench" };
  return { name, value, unit: "ratio", n: 3, min: 1, max: 2, params: { ours: 1234.5, peer: "x|y" }, ...facts, date };
}

test("every figure has a row or is listed as not measured, and the newest record wins", () => {
  const text = renderBenchmarks([
    record("cpu.train_step.vs_torch", 1.5, "2026-01-02T00:00:00Z"),
    record("cpu.train_step.vs_torch", 1.25, "2026-01-01T00:00:00Z"),
    record("gpu.train.4b.2k.mfu", 0.5, "2026-01-01T00:00:00Z"),
    record("cpu.prefill512", 3, "2026-01-01T00:00:00Z"),
  ]);
  expect(text).toContain("| `cpu.train_step.vs_torch` | **1.5** | ratio | 1–2, n = 3 | ours 1,235, peer x\\|y |");
  expect(text).not.toContain("1.25");
  const [measured = "", missing = ""] = text.split(/## Not measured.*/);
  expect(measured).toContain("`gpu.train.4b.2k.mfu`");
  expect(measured.split("## Further")[1]).toContain("cpu.prefill512");
  expect(measured).not.toContain("cpu.grpo_step.vs_trl");
  expect(missing).toContain("- `cpu.grpo_step.vs_trl` (ratio): episodes/s");
  expect(missing.match(/^- /gm)).toHaveLength(figures.length - 2);
});

test("a summary for readers comes before the figures: scores of each seed, ratios with both sides", () => {
  const date = "2026-01-01T00:00:00Z";
  const ratio = record("cpu.train_step.vs_torch", 1.5, date);
  const params = { shape: "small", oursTokensPerSecond: 3000, peerTokensPerSecond: 2000, peer: "torch 9" };
  const text = renderBenchmarks([
    record("learning.seed1.f1_before", 0.5, date),
    record("learning.seed1.f1_after", 0.84, date),
    { ...ratio, params },
  ]);
  const summary = text.slice(text.indexOf("## Summary"), text.indexOf("## Figures"));
  expect(summary).toContain("a training of its own (CPU):");
  expect(summary).toContain("| 1 | 0.500 | 0.840 | – | – | – |");
  expect(summary).toContain(
    "- **1.5 ×** tokens/s over the best PyTorch figure, 30 M shape, 2 threads " +
      "(3,000 against 2,000 tokens per second; 1–2 in 3 rounds; peer: torch 9; shape small)",
  );
  expect(summary).toContain("on the same machine, CPU, 2 threads:");
  expect(renderBenchmarks([])).not.toContain("## Summary");
});

test("placeholders stand for one word", () => {
  const figure = { name: "gpu.train.<model>.<len>.mfu", unit: "", meaning: "" };
  expect(isFigure(figure, "gpu.train.0b6.8k.mfu")).toBe(true);
  expect(isFigure(figure, "gpu.train.8k.mfu")).toBe(false);
  expect(isFigure(figure, "gpu.train.a.b.c.mfu")).toBe(false);
});

test("goals that need a GPU are listed as not measured, with the command, until their figures have records", () => {
  const fraction = "Qwen3-4B at 8k at 50 % or more of the measured matrix rate";
  const goals = (records: BenchmarkRecord[]): string =>
    renderBenchmarks(records).split("## Not measured on a GPU")[1] ?? "";
  expect(goals([])).toContain(`- not measured: ${fraction} (\`pnpm run pack:gpu`);
  expect(goals([]).match(/^- not measured: /gm)).toHaveLength(gpuGoals.length);
  expect(goals([record("gpu.train.4b.8k.mfu", 0.5, "2026-01-01T00:00:00Z")])).not.toContain(fraction);
});
