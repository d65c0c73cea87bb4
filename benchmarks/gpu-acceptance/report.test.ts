import { expect, test } from "vitest";
import { figures, isFigure } from "../figures.ts";
import { plannedSeconds, planRun, unpackSeconds, wholeSeconds } from "./plan.ts";
import { figuresOf, type Part } from "./report.ts";
import { verdictsOf } from "./verdicts.ts";

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
    { bench: "prefix_sharing", shape: "qwen3-4b", prompt: 4096, prefill_speedup: [5, 7, 6] },
    { bench: "agent_tree", shape: "qwen3-4b", decode_speedup: [1.4], replay_speedup: [2] },
    { bench: "agent_tree", shape: "nano", decode_speedup: [9] },
  ]),
  part("kernels", [
    { kernel: "copy", us: 1, gbps: 4300 },
    { kernel: "adamw", dtype: "bf16", us: 1, min_us: 1, gbps: 3900, share_of_copy: 0.9 },
    { kernel: "swiglu_forward", dtype: "bf16", us: 1, min_us: 1, gbps: 3400, share_of_copy: 0.8 },
  ]),
];
parts.push(
  part("products", [
    { product_bits: "4b", tiles: 900, unequal: 2, last_unequal: "qkv" },
    { product: "qkv", rows: 1, us: 9, cublaslt_us: 18, share_of_copy: 0.8, tflops: 3 },
    { products: "4b", rows: 1, us: 2000, cublaslt_us: 3000, cublaslt_best_us: 2500, share_of_copy: 0.9, tflops: 4 },
    { products: "4b", rows: 8192, us: 100, cublaslt_us: 90, cublaslt_best_us: 80, share_of_copy: 0.1, tflops: 600 },
  ]),
);
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
  expect(measured("gpu.prefix_sharing.prefill_speedup")).toBe(6);
  expect(measured("gpu.agent_tree.decode_speedup")).toBe(1.4);
  expect(measured("gpu.products.4b.unequal")).toBe(2);
  expect(measured("gpu.products.4b.rows1.vs_cublaslt")).toBe(1.5);
  expect(measured("gpu.products.4b.rows8192.tflops")).toBe(600);
  for (const name of [
    "gpu.products.4b.unequal",
    "gpu.products.4b.rows64.share_of_copy",
    "onpolicy.gpu.tokens",
    "gpu.decode.4b.b64.share_of_limit",
    "gpu.prefill.4b.share_of_matrix_rate",
    "gpu.prefix_sharing.prefill_speedup",
    "gpu.agent_tree.decode_speedup",
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
  expect(status("gpu.products.4b.unequal")).toBe("missed");
  expect(status("gpu.products.4b.rows8192")).toBe("met");
  expect(status("gpu.decode.4b.b1.share")).toBe("met");
  expect(status("gpu.decode.4b.b64.share")).toBe("missed");
  expect(status("gpu.decode.4b.b256.share")).toBe("not measured");
  expect(status("gpu.prefill.4b")).toBe("met");
  expect(status("gpu.prefix_sharing")).toBe("met");
  expect(status("gpu.agent_tree")).toBe("missed");
  expect(status("golden cases")).toBe("not measured");
  expect(status("native tests")).toBe("missed");
  expect(status("compute-sanitizer")).toBe("not measured");
});

const cuda = { device: "cuda" };
const goldenParts = (ours: Record<string, unknown>): Part[] => [
  part("golden bfloat16", [
    {
      golden: "forward a",
      dtype: "bfloat16",
      ok: true,
      relative: 0.1,
      errors: { logprobs: 0.02, logits: 0.01 },
      ...cuda,
    },
    { golden: "gradients a", dtype: "bfloat16", ok: true, relative: 0.1, errors: { w: 0.01 }, ...cuda },
    { golden: "gradients a, recomputed", dtype: "bfloat16", ok: true, relative: 0.1, errors: ours, ...cuda },
    { golden: "grpo a", dtype: "bfloat16", ok: true, relative: 0.1, errors: { w: 0.9 }, flipped: 2, ...cuda },
  ]),
  part("golden bfloat16, PyTorch", [
    { peer_golden: "forward a", errors: { logprobs: 0.02, logits: 0.02 }, flipped: 0, ...cuda },
    { peer_golden: "gradients a", errors: { w: 0.01 }, flipped: 0, ...cuda },
    { peer_golden: "grpo a", errors: { w: 0.01 }, flipped: 0, ...cuda },
  ]),
];
const trueParts = (error: number | null): Part[] => [
  part("true shape qwen3-4b", [
    { agreement: "qwen3-4b", reference: "float64", errors: { logprobs: [0.001, 0.001], w: [error, 0.01] }, ...cuda },
  ]),
];

test("errors are held against PyTorch's quantity by quantity; what is missing or not finite is missed", () => {
  const golden = "gpu.golden.bfloat16.error_vs_torch";
  const shape = "gpu.true_shapes.4b.error_vs_torch";
  const judge = (all: Part[], name: string): unknown[] => {
    const { status, value } =
      verdictsOf(all, figuresOf(all), undefined).find(({ goal }) => goal.startsWith(name)) ?? {};
    return [status, value === undefined ? value : Number(value.toPrecision(3))];
  };
  expect(judge(goldenParts({ w: 0.014 }), golden)).toEqual(["met", 1.4]);
  expect(judge(goldenParts({ w: 0.016 }), golden)).toEqual(["missed", 1.6]);
  expect(judge(goldenParts({}), golden)[0]).toBe("missed");
  expect(judge(goldenParts({ w: null }), golden)[0]).toBe("missed");
  expect(judge(goldenParts({ w: 0.01 }).slice(0, 1), golden)).toEqual(["not measured", undefined]);
  expect(figuresOf(goldenParts({ w: 0.01 })).find(({ name }) => name === golden)?.params).toMatchObject({
    quantities: 4,
    acrossAClip: "grpo a (tokens: ours 2, PyTorch 0)",
  });
  expect(judge(trueParts(0.012), shape)).toEqual(["met", 1.2]);
  expect(judge(trueParts(0.02), shape)).toEqual(["missed", 2]);
  expect(judge(trueParts(null), shape)[0]).toBe("missed");
  expect(judge([part("true shape qwen3-4b", [], "failed")], shape)[0]).toBe("missed");
  expect(judge([part("true shape qwen3-4b", [], "no GPU")], shape)[0]).toBe("not measured");
  // One of its parts did not end: what it printed before is a figure, and no verdict.
  const broken = goldenParts({ w: 0.01 }).map((each, i): Part => (i === 1 ? { ...each, status: "timed out" } : each));
  expect(judge(broken, golden)).toEqual(["not measured", 1]);
});

test("the plan fits its time, and the figures of every goal that it decides are listed", () => {
  const host = { root: "/", node: "node", python: "python3", dryRun: false };
  const stages = planRun({ ...host, part: "training" });
  const guaranteed = stages.slice(0, -1); // what comes last takes what is left
  expect(unpackSeconds + plannedSeconds(guaranteed)).toBeLessThanOrEqual(wholeSeconds);
  expect(unpackSeconds + plannedSeconds(planRun({ ...host, part: "generation" }))).toBeLessThanOrEqual(wholeSeconds);
  expect(wholeSeconds).toBeLessThan(480);
  const names = [
    "gpu.true_shapes.4b.error_vs_torch",
    "gpu.golden.bfloat16.error_vs_torch",
    "gpu.invariance.4b.train8k.cost",
  ];
  for (const name of names) expect(figures.some((each) => isFigure(each, name))).toBe(true);
  const line = { invariance: "train8k", us: 100, free_us: 90, cost: 0.1, worst: "qkv forward", worst_cost: 0.2 };
  expect(figuresOf([part("kernels", [line])])[0]).toMatchObject({ name: names[2], value: 0.1 });
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
