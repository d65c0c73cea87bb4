// From an acceptance run's figures to verdicts: the bounds that the GPU path is held to, met, missed or not measured.
// Reads no files and starts nothing.
import { type FigureValue, modelNames, type Part } from "./report.ts";

export interface Verdict {
  goal: string;
  status: "met" | "missed" | "not measured";
  value?: number;
}

interface Bound {
  goal: string;
  figure: RegExp;
  met: (value: number) => boolean;
  /** Which of several figures decides. */
  worst: "lowest" | "highest";
}

const bounds: readonly Bound[] = [
  ...["0_6b", "4b"].flatMap((model) =>
    ["2k", "8k", "32k"].map((length): Bound => {
      const name = `gpu.train.${model}.${length}.vs_torch`;
      return { goal: `${name} >= 1.2`, figure: exactly(name), met: (value) => value >= 1.2, worst: "lowest" };
    }),
  ),
  bound("gpu.train.4b.8k.mfu", ">= 0.5", (value) => value >= 0.5),
  bound("gpu.attention.fwd_tflops", ">= 450", (value) => value >= 450),
  bound("gpu.attention.bwd_tflops", ">= 350", (value) => value >= 350),
  {
    goal: "every memory-bound kernel >= 0.85 of the copy bandwidth",
    figure: /^gpu\.kernel\..*\.share_of_copy$/,
    met: (value) => value >= 0.85,
    worst: "lowest",
  },
  { ...bound("gpu.train.4b.32k.plan_error", "<= 0.05", (value) => value <= 0.05), worst: "highest" },
  { ...bound("onpolicy.gpu.max_abs_diff", "= 0", (value) => value === 0), worst: "highest" },
  bound("onpolicy.gpu.tokens", ">= 100000", (value) => value >= 100_000),
  { ...bound("gpu.products.4b.unequal", "= 0", (value) => value === 0), worst: "highest" },
  bound("gpu.products.4b.rows8192.vs_cublaslt", ">= 0.8", (value) => value >= 0.8),
  bound("gpu.decode.4b.b1.share_of_limit", ">= 0.85", (value) => value >= 0.85),
  bound("gpu.decode.4b.b64.share_of_limit", ">= 0.75", (value) => value >= 0.75),
  bound("gpu.decode.4b.b256.share_of_limit", ">= 0.75", (value) => value >= 0.75),
  bound("gpu.prefill.4b.share_of_matrix_rate", ">= 0.55", (value) => value >= 0.55),
  bound("gpu.prefix_sharing.prefill_speedup", ">= 4", (value) => value >= 4),
  bound("gpu.agent_tree.decode_speedup", ">= 1.5", (value) => value >= 1.5),
];

function exactly(name: string): RegExp {
  return new RegExp(`^${name.replaceAll(".", "\\.")}$`);
}

function bound(name: string, text: string, met: Bound["met"]): Bound {
  return { goal: `${name} ${text}`, figure: exactly(name), met, worst: "lowest" };
}

function judge({ goal, figure: pattern, met, worst }: Bound, figures: readonly FigureValue[]): Verdict {
  const values = figures.filter((found) => pattern.test(found.name)).map((found) => found.value);
  if (values.length === 0) return { goal, status: "not measured" };
  const value = worst === "lowest" ? Math.min(...values) : Math.max(...values);
  return { goal, status: values.every(met) ? "met" : "missed", value };
}

/** A part that had no GPU, or no time, says nothing of correctness. */
function judgeParts(goal: string, parts: readonly Part[]): Verdict {
  if (parts.some((part) => part.status === "failed")) return { goal, status: "missed" };
  const passed = parts.length > 0 && parts.every((part) => part.status === "passed");
  return { goal, status: passed ? "met" : "not measured" };
}

/** An error no worse than 1.5 times PyTorch's, decided once everything that belongs to the comparison ran. */
function judgeAgreement(name: string, found: readonly FigureValue[], parts: readonly Part[]): Verdict {
  const goal = `${name} <= 1.5`;
  const value = found.find((each) => each.name === name)?.value;
  if (value !== undefined && value > 1.5) return { goal, status: "missed", value };
  const { status } = judgeParts(goal, parts);
  return value === undefined ? { goal, status: status === "met" ? "not measured" : status } : { goal, status, value };
}

/** Of every bound that this run can decide. */
export function verdictsOf(
  parts: readonly Part[],
  figures: readonly FigureValue[],
  totalMemoryMiB: number | undefined,
): Verdict[] {
  const named = (prefix: string): Part[] => parts.filter((part) => part.name.startsWith(prefix));
  const peak = figures.find((found) => found.name === "gpu.train.4b.32k.peak_gb")?.value;
  const goal = "qwen3-4b at 32k leaves 30 GB for the generation cache";
  const left = peak === undefined || totalMemoryMiB === undefined ? undefined : (totalMemoryMiB * 2 ** 20) / 1e9 - peak;
  const room: Verdict =
    left === undefined
      ? { goal, status: "not measured" }
      : { goal, status: left >= 30 ? "met" : "missed", value: left };
  return [
    judgeParts("native tests pass on the GPU", named("native tests")),
    judgeParts("golden cases within 1e-4 on the fp32 path", named("golden float32")),
    judgeAgreement("gpu.golden.bfloat16.error_vs_torch", figures, named("golden bfloat16")),
    ...Object.entries(modelNames).map(([shape, model]) =>
      judgeAgreement(`gpu.true_shapes.${model}.error_vs_torch`, figures, named(`true shape ${shape}`)),
    ),
    judgeParts("compute-sanitizer is clean", named("compute-sanitizer")),
    ...bounds.map((each) => judge(each, figures)),
    room,
  ];
}
