// How long a newcomer waits: the README's first command in a fresh clone, until the first training step is written.
// Needs the npm registry; runs only when it is named.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Benchmark } from "./context.ts";
import { repositoryRoot } from "./record.ts";

export const setupBenchmark: Benchmark = async function* ({ smoke }) {
  const temporary = await mkdtemp(join(tmpdir(), "wideseek-setup-"));
  try {
    const clone = join(temporary, "wideseek");
    await promisify(execFile)("git", ["clone", "--quiet", repositoryRoot, clone]);
    const command = await firstCommand(join(clone, "README.md"));
    if (smoke) return;
    const started = performance.now();
    await untilFirstStep(clone, command);
    const seconds = (performance.now() - started) / 1000;
    yield { name: "setup.seconds", unit: "s", values: [seconds], params: { command } };
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
};

/** The README's first shell block. */
async function firstCommand(readme: string): Promise<string> {
  const command = /^```sh\n(.+)\n```$/m.exec(await readFile(readme, "utf8"))?.[1];
  if (command === undefined) throw new Error(`${readme}: no shell command`);
  return command;
}

async function untilFirstStep(clone: string, command: string): Promise<void> {
  // A process group of its own, so that everything the shell started can be stopped.
  const shell = spawn("sh", ["-c", command], { cwd: clone, detached: true, stdio: ["ignore", "inherit", "inherit"] });
  const ended = once(shell, "exit");
  try {
    while (!(await hasStep(join(clone, "runs")))) {
      if (shell.exitCode !== null) throw new Error(`"${command}" ended with ${shell.exitCode} before its first step`);
      await sleep(100);
    }
  } finally {
    if (shell.exitCode === null && shell.pid !== undefined) process.kill(-shell.pid, "SIGTERM");
    await ended;
  }
}

async function hasStep(runs: string): Promise<boolean> {
  for (const run of await readdir(runs).catch(() => [])) {
    const metrics = await readFile(join(runs, run, "metrics.jsonl"), "utf8").catch(() => "");
    if (metrics.includes("\n")) return true;
  }
  return false;
}
