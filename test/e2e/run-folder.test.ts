// Which folder a run may be written to, and by which process: every refusal is one line, and nothing is written.
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { runCli } from "../../packages/cli/src/run-cli.ts";
import { formatConfig } from "../../packages/config/src/index.ts";
import { makeWorkspace, type Workspace } from "./workspace.ts";

const home = process.cwd();
let workspace: Workspace;
let directory: string;
beforeAll(async () => {
  workspace = await makeWorkspace();
  const { config } = workspace;
  const limits = { ...config.agents.limits, leadTurns: 1, maxNewTokensPerTurn: 4 };
  const small = {
    ...config,
    model: { create: null, directory: "model" },
    agents: { ...config.agents, limits },
    train: { ...config.train, steps: 1, questionsPerStep: 1, groupSize: 2 },
    coldStart: { ...config.coldStart, steps: 1 },
    eval: { ...config.eval, samples: 1, maxTasks: 1 },
  };
  await writeFile(path.join(workspace.directory, "run.yaml"), formatConfig(small));
});
afterAll(() => workspace[Symbol.asyncDispose]());
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-folder-"));
  await cp(workspace.directory, directory, { recursive: true });
  process.chdir(directory);
});
afterEach(async () => {
  process.chdir(home);
  await rm(directory, { recursive: true, force: true });
});

/** Runs the command line in this process; what it writes to stderr and its exit code. */
async function run(...argv: string[]): Promise<{ code: number; stderr: string }> {
  let stderr = "";
  const spy = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
  try {
    return { code: await runCli(argv), stderr };
  } finally {
    spy.mockRestore();
    log.mockRestore();
  }
}

const begin = (command: string, ...more: string[]): Promise<{ code: number; stderr: string }> =>
  run(command, "--config", "run.yaml", "--run-dir", "out", ...more);

/** Every file below the current folder with its text. */
async function snapshot(): Promise<Record<string, string>> {
  const entries = await readdir(".", { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await readFile(file, "latin1")])));
}

/** The call ends with code 2 and one line that says `says`, and no file has changed. */
async function refuses(says: RegExp, call: () => Promise<{ code: number; stderr: string }>): Promise<void> {
  const before = await snapshot();
  const { code, stderr } = await call();
  expect(stderr).toMatch(says);
  expect(stderr).toMatch(/^error WS_[A-Z_]+: .+\n$/);
  expect(code).toBe(2);
  expect(await snapshot()).toEqual(before);
}

describe("a run folder", () => {
  it.each(["train", "cold-start", "eval"])("is not written by %s while another process writes it", async (command) => {
    await mkdir("out");
    await writeFile("out/run.lock", JSON.stringify({ pid: process.ppid, host: hostname() }));
    const says = new RegExp(`^error WS_INVALID_STATE: out is being written by process ${process.ppid};`);
    await refuses(says, () => begin(command));
    if (command === "eval") return;
    await rm("out", { recursive: true });
    expect(await begin(command)).toMatchObject({ code: 0 });
    expect(await readdir("out")).not.toContain("run.lock");
    await writeFile("out/run.lock", JSON.stringify({ pid: process.ppid, host: hostname() }));
    await refuses(says, () => run(command, "--resume", "out"));
  });

  it("is continued by the command that made it only", async () => {
    expect(await begin("eval")).toMatchObject({ code: 0 });
    const says = (command: string, other: string): RegExp => new RegExp(`out: that is ${command} run, ${other} cannot`);
    await refuses(says("an eval", "train"), () => run("train", "--resume", "out"));
    await refuses(says("an eval", "cold-start"), () => run("cold-start", "--resume", "out"));
    await rm("out", { recursive: true });
    expect(await begin("cold-start")).toMatchObject({ code: 0 });
    await refuses(says("a cold-start", "train"), () => run("train", "--resume", "out"));
    expect(await run("cold-start", "--resume", "out")).toMatchObject({ code: 0 });
  });

  it("is begun again after a kill before its first checkpoint, by the same command", async () => {
    await mkdir("out/initial-model.tmp-a", { recursive: true });
    await writeFile("out/run.json", '{"command":"train"}\n');
    await refuses(/that is a train run, eval cannot/, () => begin("eval"));
    expect(await begin("train")).toMatchObject({ code: 0 });
  });

  it("holds a run or nothing", async () => {
    await refuses(/^error WS_INVALID_ARGUMENT: corpus is not empty and holds no run: /, () =>
      run("train", "--config", "run.yaml", "--run-dir", "corpus"),
    );
    await mkdir("out");
    expect(await begin("eval")).toMatchObject({ code: 0 });
  });

  it.each(["run.yaml", "run.yaml/y", "run.yaml/y/z"])("is not below a file: %s", async (folder) => {
    await rm("model", { recursive: true }); // so the folder is looked at first
    await refuses(/^error WS_IO: run folder \S+ \(--run-dir\): \S+run\.yaml is a file, not a folder; /, () =>
      run("train", "--config", "run.yaml", "--run-dir", folder),
    );
  });

  it("keeps the samples and the episodes of its evaluation", async () => {
    expect(await begin("eval", "--set", "eval.samples=2", "--set", "eval.workflows=[mas, sa]")).toMatchObject({
      code: 0,
    });
    await refuses(/^error WS_INVALID_ARGUMENT: out: the evaluation there has more: eval\.samples: 2 -> 1; /, () =>
      run("eval", "--resume", "out", "--set", "eval.samples=1"),
    );
    await refuses(/^error WS_INVALID_ARGUMENT: out: several evaluations; name one by --evaluation: mas, sa/, () =>
      run("inspect", "out"),
    );
    await refuses(/^error WS_INVALID_ARGUMENT: out: no evaluation mass; name one by --evaluation: mas, sa/, () =>
      run("inspect", "out", "--evaluation", "mass"),
    );
    expect(await run("inspect", "out", "--evaluation", "sa")).toEqual({ code: 0, stderr: "" });
    await rm("out/eval/sa.episodes.jsonl");
    expect(await run("inspect", "out")).toEqual({ code: 0, stderr: "" });
    await refuses(/^error WS_INVALID_ARGUMENT: out\/report\.html: no file of traces/, () =>
      run("inspect", "out/report.html"),
    );
    const missing = /^error WS_INVALID_ARGUMENT: --json no\/x\.json: there is no folder /;
    await refuses(missing, () => run("compare", "out/eval/mas.json", "out/eval/sa.json", "--json", "no/x.json"));
  });

  it.each([
    ["train", "train.groupSize=3", "train.groupSize: 2 -> 3"],
    ["cold-start", "coldStart.learningRate=0.5", "coldStart.learningRate: 0.001 -> 0.5"],
  ])("says which settings of its %s are others now", async (command, setting, change) => {
    expect(await begin(command)).toMatchObject({ code: 0 });
    await rm("model", { recursive: true }); // so the settings are looked at first
    const says = new RegExp(`^error WS_INVALID_ARGUMENT: resume: out/.* made with other settings \\(${change}\\);`);
    await refuses(says, () => run(command, "--resume", "out", "--set", setting));
  });
});
