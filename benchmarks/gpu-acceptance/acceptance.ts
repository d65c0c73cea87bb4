// The acceptance run on a GPU host: starts each part (plan.ts) with a time limit of its own, and after each one writes
// all that is known to acceptance.json, so that a run cut short keeps what it had. Started by run.sh from an unpacked bundle.
// Usage: node acceptance.ts [--out DIR] [--part training|generation] [--seconds N] [--dry-run]
// Exit code 0: all passed and met; 1: something failed or was missed; 2: nothing did, but something was not measured.
// --dry-run takes the CPU and toy sizes, to try the run itself where no GPU is; it gives no figures.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { figures, isFigure } from "../figures.ts";
import { type Lane, type Program, planRun, wholeSeconds } from "./plan.ts";
import { type FigureValue, figuresOf, type Part } from "./report.ts";
import { verdictsOf } from "./verdicts.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: process.env.OUT ?? "." },
    seconds: { type: "string", default: String(wholeSeconds) },
    part: { type: "string", default: "training" },
    "dry-run": { type: "boolean", default: false },
  },
});
const root = resolve(import.meta.dirname, "../..");
const out = resolve(values.out);
const dryRun = values["dry-run"];
const { part } = values;
if (part !== "training" && part !== "generation") throw new Error(`--part ${part}; known are training, generation`);
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
if (process.env.WIDESEEK_PYTHON !== undefined && firstLine(python, ["--version"]) === undefined) {
  throw new Error(`WIDESEEK_PYTHON=${python} does not run as a Python`);
}
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

interface Ended {
  code: number | null;
  /** There is no such program. */
  missing: boolean;
  timedOut: boolean;
  stdout: string;
  stderr: string;
}

/** Ends each program that runs now and all that it started. */
const running = new Set<() => void>();

/** Stops the program when its time is up; what it printed is kept. */
async function execute({ command, args }: Program, seconds: number): Promise<Ended> {
  return await new Promise((done) => {
    const ended: Ended = { code: null, missing: false, timedOut: false, stdout: "", stderr: "" };
    const child = spawn(command, args, { cwd: root, env: environment, detached: true });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      ended.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      ended.stderr += text;
    });
    const stop = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    };
    running.add(stop);
    const timer = setTimeout(() => {
      ended.timedOut = true;
      stop();
    }, seconds * 1000);
    const finish = (code: number | null): void => {
      clearTimeout(timer);
      running.delete(stop);
      done({ ...ended, code });
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      ended.missing = error.code === "ENOENT";
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
  const isNeeded = program.needsGpu === "always" || (program.needsGpu === undefined && !dryRun);
  if (isNeeded && gpu === null) {
    add({ ...none, status: "no GPU", reason: noGpu });
    return;
  }
  const limit = Math.min(program.seconds, secondsLeft());
  if (limit < 3) {
    add({ ...none, status: "skipped", reason: `the ${values.seconds} s of the whole run were spent` });
    return;
  }
  const start = Date.now();
  const { code, missing, timedOut, stdout, stderr } = await execute(program, limit);
  if (missing) {
    add({ ...none, status: "skipped", reason: `${program.command} is not there` });
    return;
  }
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
process.on("SIGTERM", () => {
  save(false);
  for (const stop of running) stop();
  process.exit(1);
});
const unpacking = Number(process.env.WIDESEEK_UNPACK_SECONDS ?? 0);
console.log(
  `commit ${manifest.commit}${manifest.dirty ? " (dirty)" : ""}, ${gpu ? `${gpu.name}, driver ${driver}` : noGpu}`,
);
add({ name: "unpack", status: "passed", seconds: unpacking, lines: [], output: `Node ${process.version}` });
const runLane = async (lane: Lane): Promise<void> => {
  for (const program of lane) await run(program);
};
for (const stage of planRun({ root, node: process.execPath, python, dryRun, part }))
  await Promise.all(stage.map(runLane));
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
