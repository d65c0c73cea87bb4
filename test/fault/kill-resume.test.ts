// SIGKILL at random moments, then resume: the run must end with the very same rows, traces and weights.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readRows } from "../../packages/train/src/index.ts";
import { makeWorkspace, root, tinyConfig, type Workspace } from "../e2e/workspace.ts";

let workspace: Workspace;
beforeAll(async () => {
  workspace = await makeWorkspace();
});
afterAll(() => workspace[Symbol.asyncDispose]());

/** Runs a program from source; `killAfter` milliseconds later it gets SIGKILL. Returns whether it ended by itself. */
async function runProgram(program: string, args: readonly string[], killAfter?: number): Promise<boolean> {
  const tsx = path.join(root, "node_modules/tsx/dist/esm/index.mjs");
  const child = spawn(
    process.execPath,
    ["--conditions=@wideseek/source", "--import", tsx, path.join(root, program), ...args],
    { cwd: workspace.directory, stdio: ["ignore", "ignore", "pipe"] },
  );
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors += data.toString();
  });
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfter);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once("exit", (...result) => resolve(result));
  });
  clearTimeout(timer);
  if (signal === "SIGKILL") return false;
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${errors}`);
  return true;
}

/** Everything a run leaves behind that must not depend on when it was killed. */
async function results(directory: string, weights: string): Promise<unknown> {
  const timeless = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value, (key, item) => (/time|seconds|per_second/.test(key) ? undefined : item)));
  const [metrics, evaluations, episodes] = await Promise.all(
    ["metrics.jsonl", "evaluations.jsonl", "episodes.jsonl"].map((name) => readRows(path.join(directory, name))),
  );
  const hash = createHash("sha256")
    .update(await readFile(path.join(directory, weights)))
    .digest("hex");
  return timeless({ metrics, evaluations, episodes, hash });
}

/** Kills up to five times within `milliseconds` of each start, then lets it finish. Returns when it was killed. */
async function killAndResume(run: (killAfter?: number) => Promise<boolean>, milliseconds: number): Promise<string> {
  const delays: number[] = [];
  for (let kill = 0; kill < 5; kill++) {
    const killAfter = Math.floor(Math.random() * milliseconds);
    delays.push(killAfter);
    if (await run(killAfter)) break;
  }
  await run();
  return `killed after ${delays.join(", ")} ms`;
}

// Up to seven starts of a process each, on a machine that may be busy.
describe("a killed run", { timeout: 600_000 }, () => {
  it("of GRPO ends as if it had not been killed", async () => {
    const train = (name: string) => (killAfter?: number) =>
      runProgram(
        "test/fault/train-process.ts",
        [workspace.model, path.join(workspace.directory, name), "24"],
        killAfter,
      );
    const start = performance.now();
    await train("whole")();
    const milliseconds = performance.now() - start;
    const weights = "checkpoints/step-00000024/policy/model.safetensors";
    const expected = await results(path.join(workspace.directory, "whole"), weights);
    const kills = await killAndResume(train("killed"), milliseconds);
    expect(await results(path.join(workspace.directory, "killed"), weights), kills).toEqual(expected);
  });

  it("of the cold start command ends as if it had not been killed", async () => {
    const cli = "packages/cli/src/main.ts";
    const settings = ["--config", tinyConfig, "--set", "coldStart.steps=30", "--set", "coldStart.heldOutEvery=7"];
    const coldStart = (name: string) => async (killAfter?: number) => {
      const directory = path.join(workspace.directory, name);
      // Killed before it had written its config, a run has nothing to continue and begins again.
      const isRun = existsSync(path.join(directory, "config.yaml"));
      const args = isRun ? ["--resume", directory] : ["--run-dir", directory, ...settings];
      return await runProgram(cli, ["cold-start", ...args], killAfter);
    };
    const start = performance.now();
    await coldStart("whole-cold")();
    const milliseconds = performance.now() - start;
    const weights = "model/model.safetensors";
    const expected = await results(path.join(workspace.directory, "whole-cold"), weights);
    const kills = await killAndResume(coldStart("killed-cold"), milliseconds);
    expect(await results(path.join(workspace.directory, "killed-cold"), weights), kills).toEqual(expected);
  });

  it("of an evaluation ends as if it had not been killed, and writes nothing twice", async () => {
    await writeWideSearch(path.join(workspace.directory, "benchmark"), 12);
    const sources = ["questions=benchmark/widesearch.jsonl", "gold=benchmark/gold"];
    const settings = [
      ...["--config", tinyConfig, "--set", "model.create=null", "--set", `model.directory=${workspace.model}`],
      ...["--set", "data.source=files", "--set", "data.corpus=benchmark/pages.jsonl"],
      ...sources.flatMap((each) => ["--set", `data.widesearch.${each}`]),
      ...["--set", "eval.samples=3", "--set", "eval.concurrency=3", "--set", "eval.sweepTurns=[1, 2]"],
    ];
    const evaluate = (name: string) => async (killAfter?: number) => {
      const directory = path.join(workspace.directory, name);
      const isRun = existsSync(path.join(directory, "config.yaml"));
      const args = isRun ? ["--resume", directory] : ["--run-dir", directory, ...settings];
      return await runProgram("packages/cli/src/main.ts", ["eval", ...args], killAfter);
    };
    const start = performance.now();
    await evaluate("whole-eval")();
    const milliseconds = performance.now() - start;
    const expected = await evaluationResults(path.join(workspace.directory, "whole-eval"));
    // 12 tasks of 3 samples: a response, a result as JSON and as CSV of each, and the summary.
    expect(Object.keys(expected.official)).toHaveLength(12 * 3 * 3 + 1);
    const kills = await killAndResume(evaluate("killed-eval"), milliseconds);
    expect(await evaluationResults(path.join(workspace.directory, "killed-eval")), kills).toEqual(expected);
  });
});

/** A benchmark in the published form, in both languages. */
async function writeWideSearch(directory: string, numTasks: number): Promise<void> {
  await mkdir(path.join(directory, "gold"), { recursive: true });
  const evaluation = {
    required: ["name", "height"],
    unique_columns: ["name"],
    eval_pipeline: { height: { preprocess: ["extract_number"], metric: ["number_near"], criterion: 0.1 } },
  };
  const lines = Array.from({ length: numTasks }, (_, index) => {
    const language = index % 2 === 0 ? "en" : "zh";
    const record = { instance_id: `ws_${language}_${index}`, query: `All hills of ${index}?`, language };
    return JSON.stringify({ ...record, evaluation: JSON.stringify(evaluation) });
  });
  await writeFile(path.join(directory, "widesearch.jsonl"), `${lines.join("\n")}\n`);
  await writeFile(
    path.join(directory, "pages.jsonl"),
    `${JSON.stringify({ url: "u", title: "t", contents: "hill" })}\n`,
  );
  for (const line of lines) {
    const { instance_id } = JSON.parse(line) as { instance_id: string };
    await writeFile(path.join(directory, "gold", `${instance_id}.csv`), "Name,Height\nHill,100\n");
  }
}

async function evaluationResults(directory: string): Promise<{ official: Record<string, string>; reports: unknown }> {
  const timeless = (text: string): unknown =>
    JSON.parse(text, (key, item) => (/seconds|numResumed/.test(key) ? undefined : item));
  const official: Record<string, string> = {};
  for (const name of await readdir(path.join(directory, "official/mas"))) {
    official[name] = await readFile(path.join(directory, "official/mas", name), "utf8");
  }
  const read = async (name: string): Promise<unknown> =>
    timeless(await readFile(path.join(directory, "eval", name), "utf8"));
  const results = (await readRows(path.join(directory, "eval/mas.results.jsonl"))).slice(1);
  // Episodes end in any order.
  const answers = results
    .map((row) => timeless(JSON.stringify(row)))
    .map((row) => JSON.stringify(row))
    .sort();
  const traces = (await readRows(path.join(directory, "eval/mas.episodes.jsonl"))).length;
  return { official, reports: [await read("mas.json"), await read("mas-maxTurns.sweep.json"), answers, traces] };
}
