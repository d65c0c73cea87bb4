// What can be wrong with a GPU: one clear line each, and a run that loses its GPU loses no checkpoint. On a machine
// without one, the device is emulated by a library that breaks on demand (native/test/faulty).
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeWorkspace, root, type Workspace } from "./workspace.ts";

const faulty = path.join(root, "native/build/libwideseek_cuda_faulty.so");

const config = `
model: {directory: model}
engine: {kvCacheTokens: 16384}
data: {source: files, corpus: corpus/pages.jsonl, trainTasks: train.jsonl}
agents:
  promptStyle: compact
  limits: {leadTurns: 1, contextTokens: 1024, answerReserveTokens: 64, maxNewTokensPerTurn: 4}
tools: {compactDefinitions: true}
train: {steps: 2, questionsPerStep: 1, groupSize: 2, maxTokens: 2048, checkpointEvery: 1, evalEvery: 0}
`;

let workspace: Workspace;
beforeAll(async () => {
  workspace = await makeWorkspace();
  await writeFile(path.join(workspace.directory, "run.yaml"), config);
});
afterAll(() => workspace[Symbol.asyncDispose]());

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** The command line, on the emulated device if a fault is given ("" for none). */
function run(fault: string | undefined, ...argv: string[]): Outcome {
  const tsx = path.join(root, "node_modules/tsx/dist/esm/index.mjs");
  const main = path.join(root, "packages/cli/src/main.ts");
  const library = fault === undefined ? {} : { WIDESEEK_CUDA_LIBRARY: faulty, WIDESEEK_FAULT: fault };
  return spawnSync(process.execPath, ["--conditions=@wideseek/source", "--import", tsx, main, ...argv], {
    cwd: workspace.directory,
    encoding: "utf8",
    env: { ...process.env, WIDESEEK_CUBLASLT: "/no/libcublasLt.so", ...library },
  });
}

const train = (directory: string, device: string): string[] => [
  ...["train", "--config", "run.yaml", "--run-dir", directory, "--set", `engine.device=${device}`],
];

const oneLine = /^error WS_[A-Z_]+: [^\n]+\n$/;

describe.skipIf(process.platform !== "linux")("trouble with a GPU", () => {
  it.each([
    ["no-driver", /^error WS_UNSUPPORTED: .*the NVIDIA driver is not installed; install it, or run with device cpu/],
    ["old-driver", /^error WS_UNSUPPORTED: .*too old: it supports CUDA 11\.8.*; update the driver/],
    ["no-gpu", /^error WS_UNSUPPORTED: .*the driver sees none; nvidia-smi must list a GPU/],
    ["old-gpu", /^error WS_UNSUPPORTED: .*Test GPU has compute capability 7\.0, 8\.0 or later is needed/],
    ["no-cublaslt", /^error WS_UNSUPPORTED: .*no cuBLASLt was found \(\/no\/libcublasLt\.so.*pip install/],
    ["memory=40000000", /^error WS_OUT_OF_MEMORY: .*could not allocate \d+ MiB on the GPU: .*; lower maxTrainTokens/],
  ])("%s is one line that says what to do, and nothing is left behind", async (fault, says) => {
    const before = await readdir(workspace.directory);
    const { status, stdout, stderr } = run(fault, ...train("out", "cuda"));
    expect(stderr).toMatch(says);
    expect(stderr).toMatch(oneLine);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    const after = await readdir(workspace.directory);
    expect(after.filter((name) => !before.includes(name))).toEqual([]);
  });

  it("a library of another build, or none, is one line too", async () => {
    const env = { WIDESEEK_CUDA_LIBRARY: process.env.WIDESEEK_CUDA_LIBRARY };
    try {
      process.env.WIDESEEK_CUDA_LIBRARY = "/no/libwideseek_cuda.so";
      expect(run(undefined, ...train("out", "cuda")).stderr).toMatch(/could not be loaded: \/no\/libwideseek_cuda\.so/);
      process.env.WIDESEEK_CUDA_LIBRARY = "libm.so.6";
      expect(run(undefined, ...train("out", "cuda")).stderr).toMatch(/is from another build; run `pnpm run build:nat/);
    } finally {
      process.env.WIDESEEK_CUDA_LIBRARY = env.WIDESEEK_CUDA_LIBRARY;
      if (env.WIDESEEK_CUDA_LIBRARY === undefined) delete process.env.WIDESEEK_CUDA_LIBRARY;
    }
  });

  it("memory that runs out while a checkpoint is written is no trouble with the file", () => {
    const { status, stderr } = run("memory=60000000", ...train("full", "cuda"));
    expect(stderr).toMatch(/^error WS_OUT_OF_MEMORY: allocate: could not allocate \d+ MiB on the GPU/m);
    expect(status).toBe(1);
  });

  it("auto says why it is on the CPU, and trains there", () => {
    const { status, stderr } = run("old-gpu", ...train("on-cpu", "auto"), "--steps", "1");
    expect(stderr).toMatch(/ on cpu \(running on the CPU: the GPU Test GPU has compute capability 7\.0, 8\.0 or later/);
    expect(status).toBe(0);
  });

  it("a GPU that is lost in the second step costs that step alone", async () => {
    const checkpoint = path.join("lost", "checkpoints", "step-00000001");
    const lost = run(`lost-when=${checkpoint}`, ...train("lost", "cuda"));
    expect(lost.stderr.split("\n").filter((line) => line.startsWith("error"))).toEqual([
      expect.stringMatching(/^error WS_DEVICE_LOST: .*cudaErrorIllegalAddress.*can do no more.*--resume$/),
    ]);
    expect(lost.status).toBe(1);
    expect(existsSync(path.join(workspace.directory, checkpoint, "state.json"))).toBe(true);
    const resumed = run("", "train", "--resume", "lost");
    expect(resumed).toMatchObject({ status: 0, stdout: expect.stringContaining("trained 2 steps") });
  }, 120_000);
});
