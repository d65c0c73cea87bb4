// The acceptance run on a GPU host: starts each part with a time limit of its own, and after each one writes all that is
// known to acceptance.json, so that a run cut short keeps what it had. Started by run.sh from an unpacked bundle.
// Usage: node acceptance.ts [--out DIR] [--seconds N] [--dry-run]
// Exit code 0: all passed and met; 1: something failed or was missed; 2: nothing did, but something was not measured.
// --dry-run takes the CPU and toy sizes, to try the run itself where no GPU is; it gives no figures.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { figures, isFigure } from "../figures.ts";
import { type FigureValue, figuresOf, type Part, verdictsOf } from "./report.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: process.env.OUT ?? "." },
    seconds: { type: "string", default: "470" },
    "dry-run": { type: "boolean", default: false },
  },
});
const root = resolve(import.meta.dirname, "../..");
const out = resolve(values.out);
const dryRun = values["dry-run"];
const begin = Number(process.env.WIDESEEK_ACCEPTANCE_BEGIN ?? Date.now() / 1000);
const manifest = JSON.parse(readFileSync(join(root, "manifest.json"), "utf8")) as Record<string, unknown>;
const parts: Part[] = [];
mkdirSync(out, { recursive: true });

const secondsSpent = (): number => Date.now() / 1000 - begin;
const secondsLeft = (): number => Number(values.seconds) - secondsSpent();

function firstLine(command: string, args: string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 20_000 });
  return status === 0 ? stdout.trim().split("\n")[0] : undefined;
}

const python = process.env.WIDESEEK_PYTHON ?? "python3";
const query = ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"];
const shown = firstLine("nvidia-smi", query) ?? firstLine("/usr/local/nvidia/bin/nvidia-smi", query);
const [gpuName, driver, memoryMiB, capability] = shown?.split(", ") ?? [];
const gpu = gpuName === undefined ? null : { name: gpuName, driver, memoryMiB: Number(memoryMiB), capability };
// A virtual environment's python3 is a link out of it: say where its packages are, as activating it would.
const pythonPrefix = firstLine(python, ["-c", "import sys; print(sys.prefix)"]);
const environment = {
  ...process.env,
  ...(pythonPrefix && { VIRTUAL_ENV: process.env.VIRTUAL_ENV ?? pythonPrefix }),
  WIDESEEK_SHARED: join(root, "shared"),
};

/** Renamed into place: whoever reads it while the run goes on finds a whole file. */
function write(name: string, text: string): void {
  writeFileSync(join(out, `${name}.part`), text);
  renameSync(join(out, `${name}.part`), join(out, name));
}

function save(complete: boolean): void {
  const date = new Date().toISOString();
  const facts = {
    device: gpu?.name ?? "no GPU",
    threads: cpus().length,
    commit: manifest.commit,
    dirty: manifest.dirty,
    command: "benchmarks/gpu-acceptance/run.sh",
    date,
  };
  const found = dryRun ? [] : figuresOf(parts);
  const records = found.map((each: FigureValue) => ({ ...each, ...facts }));
  const ours = figures.filter(({ name }) => /^(gpu|onpolicy\.gpu)\./.test(name));
  const report = {
    commit: manifest.commit,
    dirty: manifest.dirty,
    built: manifest,
    device: gpu,
    driver: gpu?.driver ?? null,
    date,
    complete,
    dryRun,
    seconds: Math.round(secondsSpent()),
    parts: parts.map(({ name, status, seconds, reason }) => ({ name, status, seconds, reason })),
    verdicts: dryRun ? [] : verdictsOf(parts, found, gpu?.memoryMiB),
    figures: records,
    notMeasured: ours.filter((each) => !found.some(({ name }) => isFigure(each, name))).map(({ name }) => name),
    details: parts.map(({ name, lines, output }) => ({ name, lines, output })),
  };
  write("acceptance.json", `${JSON.stringify(report, null, 1)}\n`);
  write("gpu.jsonl", records.map((record) => `${JSON.stringify(record)}\n`).join(""));
}

interface Program {
  name: string;
  /** At most; less where the whole run has less left. */
  seconds: number;
  command: string;
  args: string[];
  /** Of stdout, JSON lines and exit code; why it did not pass, or nothing. */
  judge?: (output: string, lines: Part["lines"]) => string | undefined;
  needsGpu?: boolean;
}

interface Ended {
  code: number | null;
  timedOut: boolean;
  stdout: string;
  stderr: string;
}

/** Ends the program that runs now and all that it started. */
let stopProgram = (): void => {};

/** Stops the program when its time is up; what it printed is kept. */
async function execute({ command, args }: Program, seconds: number): Promise<Ended> {
  return await new Promise((done) => {
    const child = spawn(command, args, { cwd: root, env: environment, detached: true });
    const ended: Ended = { code: null, timedOut: false, stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      ended.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      ended.stderr += text;
    });
    stopProgram = () => {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    };
    const timer = setTimeout(() => {
      ended.timedOut = true;
      stopProgram();
    }, seconds * 1000);
    const finish = (code: number | null): void => {
      clearTimeout(timer);
      stopProgram = () => {};
      done({ ...ended, code });
    };
    child.on("error", (error) => {
      ended.stderr += error.message;
      finish(null);
    });
    child.on("close", finish);
  });
}

function parseLines(stdout: string): Part["lines"] {
  return stdout.split("\n").flatMap((line) => {
    if (!line.startsWith("{")) return [];
    try {
      return [JSON.parse(line) as Record<string, unknown>];
    } catch {
      return []; // cut off in the middle
    }
  });
}

/** The line of an error output that names the error, without the stack around it; else the last line. */
function errorOf(stderr: string): string {
  const lines = stderr.trim().split("\n");
  return (lines.findLast((line) => /^[\w.]*Error\b/.test(line)) ?? lines.at(-1) ?? "").slice(0, 1000);
}

function add(part: Part): void {
  parts.push(part);
  console.log(`${part.status.padEnd(9)} ${part.seconds.toFixed(1).padStart(6)} s  ${part.name}`);
  if (part.reason) console.log(`          ${part.reason.split("\n")[0]?.slice(0, 300)}`);
  save(false);
}

async function run(program: Program): Promise<void> {
  const { name } = program;
  const none = { name, seconds: 0, lines: [], output: "" };
  if (program.needsGpu !== false && gpu === null && !dryRun) {
    add({ ...none, status: "no GPU", reason: noGpu });
    return;
  }
  const limit = Math.min(program.seconds, secondsLeft());
  if (limit < 3) {
    add({ ...none, status: "skipped", reason: `the ${values.seconds} s of the whole run were spent` });
    return;
  }
  const start = Date.now();
  const { code, timedOut, stdout, stderr } = await execute(program, limit);
  const seconds = (Date.now() - start) / 1000;
  const lines = parseLines(stdout);
  const text = [...stdout.split("\n").filter((line) => !line.startsWith("{")), stderr].join("\n").trim();
  const output = text.slice(-4000);
  const part = { name, seconds, lines, output };
  if (timedOut) {
    add({ ...part, status: "timed out", reason: `stopped after ${limit.toFixed(0)} s` });
    return;
  }
  const exit = code === 0 ? undefined : errorOf(stderr) || `exit code ${code}`;
  const reason = program.judge?.(stdout, lines) ?? exit;
  add(reason === undefined ? { ...part, status: "passed" } : { ...part, status: "failed", reason });
}

const noGpu = "no GPU: nvidia-smi is not there or shows none";
const binary = (name: string): string => join(root, "native/build", name);
const node = (script: string, ...args: string[]): Pick<Program, "command" | "args"> => ({
  command: process.execPath,
  args: [join(import.meta.dirname, script), ...args],
});

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

function training(shape: string, length: number, seconds: number, recompute: "none" | "full"): Program {
  // As many tokens as PyTorch's program takes, in sequences of that length.
  const sequences = dryRun ? 2 : Math.max(1, Math.floor(8192 / length));
  const sizes = ["--shape", shape, "--tokens", String(length), "--sequences", String(sequences)];
  const args = ["--device", dryRun ? "cpu" : "cuda", ...sizes, "--recompute", recompute];
  return { name: `training step ${shape} ${length}`, seconds, command: binary("train_shape_bench"), args };
}

/** A process each, so that each has the whole device. */
function generation(name: string, seconds: number, shape: string, ...args: string[]): Program {
  const where = ["--device", dryRun ? "cpu" : "cuda", "--shape", dryRun ? "nano" : shape];
  return { name, seconds, command: binary("generation_bench"), args: [...where, ...args] };
}

function sanitizer(tool: "memcheck" | "racecheck"): Program {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/cuda/bin"];
  const found = folders.map((folder) => join(folder, "compute-sanitizer")).find((path) => existsSync(path));
  // Small whole models, fp32 and bf16: they go through every kernel.
  const test = [binary("wideseek_native_test"), "--device", "cuda", process.env.WIDESEEK_SANITIZER_TESTS ?? "cuda_"];
  return {
    name: `compute-sanitizer ${tool}`,
    seconds: 28,
    command: found ?? "compute-sanitizer",
    args: ["--tool", tool, "--error-exitcode", "99", ...test],
    judge: (stdout) => /ERROR SUMMARY: [1-9].*/.exec(stdout)?.[0] ?? judgeTests(stdout),
  };
}

function peer(name: string, seconds: number, ...args: string[]): Program {
  const script = join(root, "shared/peers/bench_torch_gpu.py");
  const budget = String(Math.max(5, seconds - 8));
  return { name, seconds, command: python, args: [script, ...args, "--budget", budget] };
}

function programs(): Program[] {
  const device = dryRun ? "cpu" : "cuda";
  const ceilings = ["--device", device, "--ceilings", "1", "--attention", dryRun ? "128" : "16384"];
  const toy = dryRun ? ["--device", "cpu", "--shapes", "nano", "--lengths", "64"] : [];
  return [
    { name: "golden on the CPU", seconds: 20, ...node("golden.ts", "--device", "cpu", "--only", "forward qwen3-nano") },
    {
      name: "native tests",
      seconds: 50,
      command: binary("wideseek_native_test"),
      args: dryRun ? [] : ["--device", "cuda"],
    },
    { name: "golden float32", seconds: 40, ...node("golden.ts", "--device", device) },
    { name: "golden bfloat16", seconds: 20, ...node("golden.ts", "--device", device, "--dtype", "bfloat16") },
    { name: "memory-bound kernels", seconds: 30, command: binary("cuda_bench"), args: [] },
    { name: "ceilings and attention", seconds: 25, command: binary("train_shape_bench"), args: ceilings },
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
    generation(
      "sampled against training log-probabilities",
      60,
      "qwen3-0.6b",
      ...(dryRun ? ["--onpolicy", "3000", "--longest", "600"] : ["--onpolicy", "100000"]),
    ),
    ...[1, 64, 256].map((batch) => {
      const sizes = dryRun ? ["--context", "64", "--steps", "4"] : [];
      return generation(`decode qwen3-4b, batch ${batch}`, 25, "qwen3-4b", "--decode", String(batch), ...sizes);
    }),
    peer("PyTorch ceilings and attention", 25, "--tasks", "ceilings,attention", ...toy),
    peer("PyTorch training step", 95, "--tasks", "train", ...toy),
    sanitizer("memcheck"),
    sanitizer("racecheck"),
    // The rest of the time: compiling takes most of a minute for each shape.
    peer("PyTorch training step, compiled", 120, "--tasks", "train", "--compile", "1", "--lengths", "8192", ...toy),
  ].map((program) => {
    if (program.name === "golden on the CPU") return { ...program, judge: judgeGolden, needsGpu: false };
    if (program.name === "native tests") return { ...program, judge: judgeTests };
    return program.name.startsWith("golden") ? { ...program, judge: judgeGolden } : program;
  });
}

process.on("SIGTERM", () => {
  save(false);
  stopProgram();
  process.exit(1);
});
const unpacking = Number(process.env.WIDESEEK_UNPACK_SECONDS ?? 0);
console.log(
  `commit ${manifest.commit}${manifest.dirty ? " (dirty)" : ""}, ${gpu ? `${gpu.name}, driver ${driver}` : noGpu}`,
);
add({ name: "unpack", status: "passed", seconds: unpacking, lines: [], output: `Node ${process.version}` });
for (const program of programs()) await run(program);
save(true);
const verdicts = dryRun ? [] : verdictsOf(parts, figuresOf(parts), gpu?.memoryMiB);
for (const { goal, status, value } of verdicts) {
  console.log(`${status.padEnd(12)} ${goal}${value === undefined ? "" : `: ${Number(value.toPrecision(4))}`}`);
}
console.log(`${join(out, "acceptance.json")}: ${Math.round(secondsSpent())} s`);
const isWrong = parts.some((part) => ["failed", "timed out"].includes(part.status));
const isMissed = verdicts.some(({ status }) => status === "missed");
const isWhole = parts.every(({ status }) => status === "passed") && verdicts.every(({ status }) => status === "met");
process.exitCode = isWrong || isMissed ? 1 : isWhole ? 0 : 2;
