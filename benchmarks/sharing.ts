// What it saves that sequences share blocks of the KV cache: prefill of a group's prompt, decoding of a tree of agents.
// A native program measures them, for it sees which steps of the engine did nothing but decode. Owns how that is started.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { Benchmark, BenchmarkContext } from "./context.ts";
import { dtypeOf } from "./device.ts";
import { repositoryRoot } from "./record.ts";

type Line = { bench: "prefix_sharing" | "agent_tree" } & Record<string, unknown>;

const figureOf = { prefix_sharing: "prefill_speedup", agent_tree: "decode_speedup" } as const;
/** What the program calls the shapes that it knows. */
const shapes: Readonly<Record<string, string>> = {
  toy: "nano",
  "bench-30m": "bench-30m",
  "0_6b": "qwen3-0.6b",
  "4b": "qwen3-4b",
};

function measure({ device, shape, threads, rounds, smoke }: BenchmarkContext): Line[] {
  const program = join(repositoryRoot, "native/build/sharing_bench");
  const divide = smoke ? 32 : device.kind === "cpu" ? 8 : 1;
  const sizes = { threads, rounds, divide, group: smoke ? 2 : 8 };
  const args = Object.entries(sizes).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const where = ["--device", device.kind, "--shape", shapes[shape.name] ?? shape.name];
  const { status, stdout, stderr, error } = spawnSync(program, [...where, ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

export const sharingBenchmark: Benchmark = async function* (context) {
  const { device, shape } = context;
  for (const { bench, shape: _, ...line } of measure(context)) {
    const { [figureOf[bench]]: values, ...params } = line;
    yield {
      name: `${device.kind === "cpu" ? "cpu" : "gpu"}.${bench}.${figureOf[bench]}`,
      unit: "ratio",
      values: values as number[],
      params: { shape: shape.name, dtype: dtypeOf(device), ...params },
    };
  }
};
