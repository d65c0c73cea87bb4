import { expect, test } from "vitest";
import { figures, isFigure } from "../figures.ts";
import { figuresOf, type Part, verdictsOf } from "./report.ts";

function part(name: string, lines: Record<string, unknown>[], status: Part["status"] = "passed"): Part {
  return { name, status, seconds: 1, lines, output: "" };
}

const train = { bench: "train", shape: "qwen3-4b", sequences: 1, n: 3, tokens_per_s_min: 9, tokens_per_s_max: 11 };
const parts = [
  part("ceilings", [
    { bench: "matmul", n: 8192, tflops: 700, tflops_min: 690, tflops_max: 710 },
    { bench: "attention", length: 16384, fwd_tflops: 460, fwd_min: 450, fwd_max: 470, bwd_tflops: 300 },
  ]),
  part("train", [
    { ...train, length: 8192, tokens_per_s: 10, model_tflops: 400, peak_bytes: 90e9, planned_bytes: 90e9 },
    { ...train, length: 32768, tokens_per_s: 10, model_tflops: 400, peak_bytes: 110e9, planned_bytes: 100e9 },
  ]),
  part("peer", [
    { task: "matmul", tflops: 800 },
    { task: "train", shape: "qwen3-4b", length: 8192, tokens_per_s: 5, compiled: false },
    { task: "train", shape: "qwen3-4b", length: 8192, tokens_per_s: 8, compiled: true },
    { task: "train", shape: "qwen3-4b", length: 32768, error: "out of memory" },
  ]),
  part("generation", [
    { bench: "copy", tb_per_s: 4 },
    { bench: "onpolicy", shape: "qwen3-0.6b", tokens: 100_000, unequal: 1, max_abs_diff: 1e-6 },
    { bench: "decode", shape: "qwen3-4b", batch: 1, tokens_per_s: 300, ms_min: 3, ms_max: 4, tb_per_s: 3.6 },
    { bench: "decode", shape: "qwen3-4b", batch: 64, tokens_per_s: 9000, ms_min: 3, ms_max: 4, tb_per_s: 2 },
    { bench: "prefill", shape: "qwen3-4b", batch: 1, tflops: 100 },
    { bench: "prefill", shape: "qwen3-4b", batch: 64, tflops: 480 },
  ]),
  part("kernels", [
    { kernel: "copy", us: 1, gbps: 4300 },
    { kernel: "adamw", dtype: "bf16", us: 1, min_us: 1, gbps: 3900, share_of_copy: 0.9 },
    { kernel: "swiglu_forward", dtype: "bf16", us: 1, min_us: 1, gbps: 3400, share_of_copy: 0.8 },
  ]),
];
const found = figuresOf(parts);
const measured = (name: string): number | undefined => found.find((each) => each.name === name)?.value;

test("figures have the names that figures.ts lists, and judge by the harder ceiling and the better peer", () => {
  expect(measured("gpu.train.4b.8k.mfu")).toBe(400 / 800);
  expect(measured("gpu.train.4b.8k.vs_torch")).toBe(10 / 8);
  expect(measured("gpu.train.4b.32k.vs_torch")).toBeUndefined();
  expect(measured("gpu.train.4b.32k.plan_error")).toBeCloseTo(0.1);
  expect(measured("gpu.attention.fwd_tflops")).toBe(460);
  expect(measured("gpu.decode.4b.b1.share_of_limit")).toBeCloseTo(0.9);
  expect(measured("gpu.prefill.4b.share_of_matrix_rate")).toBeCloseTo(480 / 800);
  for (const name of [
    "onpolicy.gpu.tokens",
    "gpu.decode.4b.b64.share_of_limit",
    "gpu.prefill.4b.share_of_matrix_rate",
    "gpu.train.4b.8k.mfu",
    "gpu.train.4b.32k.peak_gb",
    "gpu.attention.bwd_tflops",
  ]) {
    expect(figures.some((each) => isFigure(each, name))).toBe(true);
  }
});

test("a verdict is met, missed or not measured, never assumed", () => {
  const all = [...parts, part("golden float32", [], "no GPU"), part("native tests", [], "failed")];
  const verdicts = verdictsOf(all, found, 143_771);
  const status = (start: string): string | undefined => verdicts.find(({ goal }) => goal.startsWith(start))?.status;
  expect(status("gpu.train.4b.8k.vs_torch")).toBe("met");
  expect(status("gpu.train.0_6b.2k.vs_torch")).toBe("not measured");
  expect(status("gpu.attention.bwd_tflops")).toBe("missed");
  expect(status("every memory-bound kernel")).toBe("missed");
  expect(status("gpu.train.4b.32k.plan_error")).toBe("missed");
  expect(status("qwen3-4b at 32k leaves")).toBe("met");
  expect(status("onpolicy.gpu.max_abs_diff")).toBe("missed");
  expect(status("onpolicy.gpu.tokens")).toBe("met");
  expect(status("gpu.decode.4b.b1.share")).toBe("met");
  expect(status("gpu.decode.4b.b64.share")).toBe("missed");
  expect(status("gpu.decode.4b.b256.share")).toBe("not measured");
  expect(status("gpu.prefill.4b")).toBe("met");
  expect(status("golden cases")).toBe("not measured");
  expect(status("native tests")).toBe("missed");
  expect(status("compute-sanitizer")).toBe("not measured");
});

test("the sanitizer has a figure once both tools ran, and every goal that the run decides names what it prints", () => {
  const named = (status: Part["status"]): number | undefined =>
    figuresOf([part("compute-sanitizer memcheck", []), part("compute-sanitizer racecheck", [], status)])[0]?.value;
  expect([named("passed"), named("failed"), named("skipped")]).toEqual([0, 1, undefined]);
  expect(
    isFigure(
      { name: "gpu.kernel.<kernel>.share_of_copy", unit: "", meaning: "" },
      "gpu.kernel.adamw_bf16.share_of_copy",
    ),
  ).toBe(true);
});
