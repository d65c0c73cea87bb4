import { expect, test } from "vitest";
import { figures, isFigure } from "./figures.ts";
import type { BenchmarkRecord } from "./record.ts";
import { renderBenchmarks } from "./render.ts";

function record(name: string, value: number, date: string): BenchmarkRecord {
  const facts = { device: "CPU", threads: 2, commit: "abc", dirty: true, command: "pnpm run bench" };
  return { name, value, unit: "ratio", n: 3, min: 1, max: 2, params: { ours: 1234.5, peer: "x|y" }, ...facts, date };
}

test("every figure has a row, measured or not, and the newest record wins", () => {
  const text = renderBenchmarks([
    record("cpu.train_step.vs_torch", 1.5, "2026-01-02T00:00:00Z"),
    record("cpu.train_step.vs_torch", 1.25, "2026-01-01T00:00:00Z"),
    record("gpu.train.4b.2k.mfu", 0.5, "2026-01-01T00:00:00Z"),
    record("cpu.prefill512", 3, "2026-01-01T00:00:00Z"),
  ]);
  expect(text).toContain("| `cpu.train_step.vs_torch` | **1.5** | ratio | 1–2, n = 3 | ours 1,235, peer x\\|y |");
  expect(text).not.toContain("1.25");
  expect(text).toContain("`gpu.train.4b.2k.mfu`");
  expect(text.split("## Further")[1]).toContain("cpu.prefill512");
  expect(text.match(/not measured/g)).toHaveLength(figures.length - 2);
});

test("placeholders stand for one word", () => {
  const figure = { name: "gpu.train.<model>.<len>.mfu", unit: "", meaning: "" };
  expect(isFigure(figure, "gpu.train.0b6.8k.mfu")).toBe(true);
  expect(isFigure(figure, "gpu.train.8k.mfu")).toBe(false);
  expect(isFigure(figure, "gpu.train.a.b.c.mfu")).toBe(false);
});
