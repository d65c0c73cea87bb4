// Which programs an acceptance run starts, in which order, and how long each may take. Starts nothing.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Part } from "./report.ts";

export interface Program {
  name: string;
  /** At most; less where the whole run has less left. */
  seconds: number;
  command: string;
  args: string[];
  /** Of stdout, JSON lines and exit code; why it did not pass, or nothing. */
  judge?: (output: string, lines: Part["lines"]) => string | undefined;
  needsGpu?: boolean;
}

/** Programs one after the other. */
export type Lane = readonly Program[];
/** Lanes side by side. */
export type Stage = readonly Lane[];

/** Seconds of a whole run, unless it is told otherwise: below the 8 minutes that it may take. */
export const wholeSeconds = 470;
/** Before the first program. */
export const unpackSeconds = 15;

/** Tests that were not run are not passed: an unknown option would only filter them all out. */
function judgeTests(stdout: string): string | undefined {
  const [, passed, failed] = /(\d+) passed, (\d+) failed/.exec(stdout) ?? [];
  if (passed === undefined) return undefined; // it broke off: the exit code says how
  if (passed === "0") return "no test was run";
  const names = [...stdout.matchAll(/^FAILED (\S+)/gm)].map((match) => match[1]);
  return failed === "0" ? undefined : `${failed} of ${Number(passed) + Number(failed)} failed: ${names.join(", ")}`;
}

function judgeGolden(_: string, lines: Part["lines"]): string | undefined {
  if (lines.length === 0) return undefined;
  const failed = lines.filter((line) => line.ok !== true);
  const show = (line: Record<string, unknown>): string =>
    `${line.golden}: ${line.error ?? `${line.relative} ${line.at}`}`;
  return failed.length === 0 ? undefined : `${failed.length} of ${lines.length} failed: ${failed.map(show).join("; ")}`;
}

export interface PlanOptions {
  /** Of the unpacked bundle. */
  root: string;
  node: string;
  python: string;
  /** On the CPU at toy size. */
  dryRun: boolean;
  /** One run cannot hold both in its time. */
  part: "training" | "generation";
}

/** What decides correctness runs side by side, for nothing of it is timed; what is timed has the machine for itself. */
export function planRun({ root, node, python, dryRun, part }: PlanOptions): Stage[] {
  const device = dryRun ? "cpu" : "cuda";
  const binary = (name: string): string => join(root, "native/build", name);
  const script = (name: string): string => join(root, "benchmarks/gpu-acceptance", name);
  const toy = dryRun ? ["--device", "cpu", "--shapes", "nano", "--lengths", "64"] : [];

  const golden = (name: string, seconds: number, on: string, ...args: string[]): Program => ({
    ...{ name, seconds, command: node, args: [script("golden.ts"), "--device", on, ...args] },
    judge: judgeGolden,
  });
  const goldenOnCpu = golden("golden on the CPU", 20, "cpu", "--only", "forward qwen3-nano");
  const agreement = (name: string, seconds: number, ...args: string[]): Program => ({
    ...{ name, seconds, command: python, args: [script("agreement.py"), ...args] },
  });
  const trueShape = (shape: string, seconds: number): Program => {
    const ours = [node, script("gradients.ts"), "--device", device];
    return agreement(`true shape ${shape}`, seconds, "shape", shape, "--device", device, "--", ...ours);
  };
  const tests = (...filter: string[]): string[] => [...(dryRun ? [] : ["--device", "cuda"]), ...filter];
  const sanitizer = (tool: "memcheck" | "racecheck"): Program => {
    const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/cuda/bin"];
    const found = folders.map((folder) => join(folder, "compute-sanitizer")).find((path) => existsSync(path));
    // Small whole models, fp32 and bf16: they go through every kernel.
    const test = [binary("wideseek_native_test"), ...tests(process.env.WIDESEEK_SANITIZER_TESTS ?? "cuda_")];
    return {
      name: `compute-sanitizer ${tool}`,
      seconds: 28,
      command: found ?? "compute-sanitizer",
      args: ["--tool", tool, "--error-exitcode", "99", ...test],
      judge: (stdout) => /ERROR SUMMARY: [1-9].*/.exec(stdout)?.[0] ?? judgeTests(stdout),
    };
  };
  const training = (shape: string, length: number, seconds: number, recompute: "none" | "full"): Program => {
    // As many tokens as PyTorch's program takes, in sequences of that length.
    const sequences = dryRun ? 2 : Math.max(1, Math.floor(8192 / length));
    const sizes = ["--shape", shape, "--tokens", String(length), "--sequences", String(sequences)];
    const args = ["--device", device, ...sizes, "--recompute", recompute];
    return { name: `training step ${shape} ${length}`, seconds, command: binary("train_shape_bench"), args };
  };
  const peer = (name: string, seconds: number, ...args: string[]): Program => {
    const budget = String(Math.max(5, seconds - 8));
    const bench = join(root, "shared/peers/bench_torch_gpu.py");
    return { name, seconds, command: python, args: [bench, ...args, ...toy, "--budget", budget] };
  };
  const ceilings: Program = {
    name: "ceilings and attention",
    seconds: 25,
    command: binary("train_shape_bench"),
    args: ["--device", device, "--ceilings", "1", "--attention", dryRun ? "128" : "16384"],
  };
  // A process each, so that each has the whole device.
  const generation = (name: string, seconds: number, shape: string, ...args: string[]): Program => {
    const where = ["--device", device, "--shape", dryRun ? "nano" : shape];
    return { name, seconds, command: binary("generation_bench"), args: [...where, ...args] };
  };
  if (part === "generation") {
    const onPolicy = (shape: string, seconds: number): Program => {
      const sizes = dryRun ? ["--onpolicy", "3000", "--longest", "600"] : ["--onpolicy", "100000"];
      return generation(`sampled against training log-probabilities, ${shape}`, seconds, shape, ...sizes);
    };
    const decoding = [1, 64, 256].map((batch) => {
      const sizes = dryRun ? ["--context", "64", "--steps", "4"] : [];
      return generation(`decode qwen3-4b, batch ${batch}`, 25, "qwen3-4b", "--decode", String(batch), ...sizes);
    });
    const generationTests: Program = {
      ...{ name: "native tests of generation", command: binary("wideseek_native_test") },
      seconds: dryRun ? 180 : 50, // the emulation is slow
      ...{ args: tests("device_"), judge: judgeTests },
    };
    const layers: Program = { name: "linear layers", seconds: 12, command: binary("cuda_bench"), args: ["products"] };
    const timed = dryRun ? decoding : [layers, ...decoding];
    return [[[generationTests, ceilings, onPolicy("qwen3-0.6b", 60), ...timed, onPolicy("qwen3-4b", 230)]]];
  }

  const correctness: Stage = [
    [
      { ...goldenOnCpu, needsGpu: false },
      {
        ...{ name: "native tests", command: binary("wideseek_native_test"), args: tests(), judge: judgeTests },
        seconds: dryRun ? 180 : 50, // the emulation is slow
      },
      golden("golden float32", 35, device),
      golden("golden bfloat16", 20, device, "--dtype", "bfloat16"),
    ],
    [
      agreement(
        "golden bfloat16, PyTorch",
        dryRun ? 120 : 30,
        "golden",
        "--device",
        device,
        "--data",
        join(root, "shared/golden"),
      ),
      ...(dryRun ? [trueShape("nano", 60)] : [trueShape("qwen3-0.6b", 30), trueShape("qwen3-4b", 70)]),
    ],
    [sanitizer("memcheck"), sanitizer("racecheck")],
  ];
  const timed: Program[] = [
    { name: "memory-bound kernels", seconds: 35, command: binary("cuda_bench"), args: [] },
    ceilings,
    ...(dryRun
      ? [training("nano", 64, 20, "full")]
      : [
          training("qwen3-0.6b", 2048, 15, "none"),
          training("qwen3-0.6b", 8192, 15, "none"),
          training("qwen3-0.6b", 32768, 25, "none"),
          training("qwen3-4b", 2048, 20, "none"),
          training("qwen3-4b", 8192, 25, "none"),
          // Without recomputation the activations of this one do not fit beside the optimizer's state.
          training("qwen3-4b", 32768, 45, "full"),
        ]),
    peer("PyTorch ceilings and attention", 25, "--tasks", "ceilings,attention"),
    peer("PyTorch training step", 95, "--tasks", "train"),
  ];
  // Of PyTorch's, the last: compiling takes most of a minute for each shape, and gets the rest of the time.
  const compiled = peer("PyTorch training step, compiled", 120, "--tasks", "train", "--compile", "1");
  if (!dryRun) compiled.args.push("--lengths", "8192");
  return [correctness, [timed], [[compiled]]];
}

/** Seconds of all stages, were every program to take all of its time. */
export function plannedSeconds(stages: readonly Stage[]): number {
  const laneSeconds = (lane: Lane): number => lane.reduce((sum, { seconds }) => sum + seconds, 0);
  return stages.reduce((sum, stage) => sum + Math.max(...stage.map(laneSeconds)), 0);
}
