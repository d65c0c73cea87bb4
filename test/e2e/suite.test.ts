// The rows of the paper's tables on the embedded world, from question to score: our own on the shipped model, the other
// systems on models that follow their protocols by rule, over loopback.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { startScriptedModels } from "../../benchmarks/scripted-models.ts";
import { runCli } from "../../packages/cli/src/run-cli.ts";
import { loadConfig, loadSuite } from "../../packages/config/src/index.ts";
import type { SuiteReport } from "../../packages/core/src/suite-report.ts";
import { runSuite } from "../../packages/core/src/suite-run.ts";
import { root } from "./workspace.ts";

const home = process.cwd();
let directory: string;
let config: string;
let server: Awaited<ReturnType<typeof startScriptedModels>>;
beforeAll(async () => {
  process.chdir(root);
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-suite-"));
  server = await startScriptedModels(0);
  const text = await readFile("configs/suite-embedded.yaml", "utf8");
  config = path.join(directory, "suite.yaml");
  await writeFile(config, text.replaceAll("http://127.0.0.1:8907/v1", server.baseUrl));
});
afterAll(async () => {
  process.chdir(home);
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** A small world: the tests are about the way, not the figures. */
const small = ["data.numTrainRegions=12", "data.numHeldOutRegions=20", "eval.samples=1"];

async function run(...argv: string[]): Promise<{ code: number; out: string; error: string }> {
  let [out, error] = ["", ""];
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    error += String(text);
    return true;
  });
  const log = vi.spyOn(console, "log").mockImplementation((text: string) => {
    out += `${text}\n`;
  });
  try {
    const code = await runCli(["eval", ...argv]);
    return { code, out, error };
  } finally {
    stderr.mockRestore();
    log.mockRestore();
  }
}

const sets = (...settings: string[]): string[] => settings.flatMap((setting) => ["--set", setting]);
const readReport = async (folder: string): Promise<SuiteReport> =>
  JSON.parse(await readFile(path.join(folder, "suite.json"), "utf8")) as SuiteReport;

describe("paper-table1", () => {
  it("runs every workflow to a score, and again only what is not done", async () => {
    const folder = path.join(directory, "table1");
    const settings = sets(...small, "eval.maxTasks=1");
    const first = await run("--suite", "paper-table1", "--config", config, "--run-dir", folder, ...settings);
    expect(first.error).not.toMatch(/^error/m);
    expect(first.code).toBe(0);
    const report = await readReport(folder);
    expect(report.rows).toHaveLength(11);
    for (const row of report.rows) {
      expect(row, row.id).toMatchObject({ status: "done", numEpisodes: 1, numErrors: 0, numUnjudged: 0 });
      expect(row.figures["item-avg"]?.ours?.mean, row.id).toBeGreaterThan(10);
      expect(row.cost?.promptTokens, row.id).toBeGreaterThan(100);
    }
    expect(report.rows.find(({ id }) => id === "agentflow-7b")?.figures["row-max"]?.published).toBe(20.2);
    expect(first.out).toMatch(/MiroFlow-8B +several agents +scripted-miroflow +\d+\.\d† \(23\.7\)/);
    expect(first.out).toContain("questions of the embedded world, so not those of the paper");
    expect(first.out).toContain("the model owl_8b is scripted-owl at");
    expect(await readFile(path.join(folder, "suite.md"), "utf8")).toContain(
      "| Search-R1-7B | single agent | scripted-search-r1 |",
    );
    const figure = await readFile(path.join(folder, "suite.svg"), "utf8");
    for (const text of [">miroflow-8b<", ">23.7<", ">ours<", ">published<"]) expect(figure).toContain(text);
    // What was said is kept in texts and shown.
    const [trace = ""] = (await readFile(path.join(folder, "eval/miroflow-8b.episodes.jsonl"), "utf8")).split("\n");
    expect(JSON.parse(trace).agents[1].segments[1]).toMatchObject({
      kind: "sampled",
      text: expect.stringContaining("<use_mcp_tool>"),
    });
    expect(await readFile(path.join(folder, "report.html"), "utf8")).toContain("use_mcp_tool");

    // The published files count the turns and calls of every system.
    for (const { id, team } of report.rows) {
      const file = path.join(folder, "published", id, "metrics.json");
      const { experiment_name, metrics } = JSON.parse(await readFile(file, "utf8"));
      expect(experiment_name).toBe(id);
      expect(metrics.avg_prompt_length, id).toBeGreaterThan(10);
      expect(metrics.traj_avg_search, id).toBeGreaterThan(0);
      expect(metrics.turn_avg_search, id).toBeGreaterThan(0);
      expect("avg_num_subagents_per_traj" in metrics, id).toBe(team === "multi");
    }

    const { numRequests } = server;
    const again = await run("--suite", "paper-table1", "--resume", folder);
    expect(again.code).toBe(0);
    expect(server.numRequests).toBe(numRequests);
    expect((await readReport(folder)).rows).toEqual(report.rows);
  });

  it("goes on in the middle of a row after a stop, with the same figures", async () => {
    const { name, suite } = await loadSuite("paper-table1");
    const settings = await loadConfig({ file: config, overrides: [...small, "eval.maxTasks=3", "eval.concurrency=1"] });
    const rows = ["owl-8b", "asearcher-7b"];
    const progress = { isTTY: false, write: () => true };
    const options = (folder: string) => ({
      name,
      suite,
      config: settings,
      directory: path.join(directory, folder),
      rows,
      progress,
    });
    const whole = await runSuite(options("whole"));
    const controller = new AbortController();
    const reason = new Error("stopped");
    const { numRequests } = server;
    const watch = setInterval(() => {
      if (server.numRequests > numRequests + 8) controller.abort(reason);
    }, 1);
    await expect(runSuite({ ...options("stopped"), signal: controller.signal })).rejects.toBe(reason);
    clearInterval(watch);
    const finished = await runSuite({ ...options("stopped"), resume: true });
    const figures = ({ rows }: SuiteReport) => rows.map((row) => row.figures);
    expect(figures(finished)).toEqual(figures(whole));
    await expect(runSuite(options("stopped"))).rejects.toThrow("already holds a run");
    expect(Object.keys(whole.replaced).sort()).toEqual(["asearcher_7b", "owl_8b"]);

    // Episodes of other options are not taken over.
    const { owl_8b: _, ...others } = settings.suite.models;
    const owlRow = { ...suite.rows["owl-8b"], options: { maxAttempts: 1 } } as (typeof suite.rows)[string];
    const changed = { ...suite, rows: { ...suite.rows, "owl-8b": owlRow } };
    const again = { ...options("stopped"), suite: changed, resume: true };
    const refused = await runSuite(again);
    expect(refused.rows.map(({ status }) => status)).toEqual(["done", "failed"]);
    expect(refused.rows[1]?.reasons[0]).toMatch(/owl-8b\.results\.jsonl/);
    const without = await runSuite({ ...again, config: { ...settings, suite: { models: others } } });
    expect(without.rows[1]).toMatchObject({
      status: "missing",
      figures: { "item-avg": { ours: null, published: 20.2 } },
    });
  });

  it("fails when no row could run, and names the config with which rows do", async () => {
    const folder = path.join(directory, "none");
    const model = 'suite.models.wideseek_r1_4b={"kind": "local", "directory": "models/none"}';
    const rows = ["--suite", "paper-table1", "--rows", "wideseek-r1-4b", "--config", config, "--run-dir", folder];
    const { code, error } = await run(...rows, ...sets(...small, model));
    expect(code).toBe(1);
    expect(error).toMatch(/^failed: no row could run: .*suite\.models.*configs\/suite-embedded\.yaml/m);
  });

  it("says what is missing, and a dead endpoint stops no other row", async () => {
    const folder = path.join(directory, "missing");
    vi.stubEnv("NOT_THERE_KEY", undefined);
    const models = {
      wideseek_r1_4b: { kind: "local", directory: "models/none" },
      deepseek_r1: { kind: "api", baseUrl: null, model: "x", apiKeyEnv: "NOT_THERE_KEY" },
      search_r1_7b: { kind: "api", baseUrl: "http://127.0.0.1:9/v1", model: "x", maxAttempts: 1 },
    };
    const overrides = Object.entries(models).map(([id, model]) => `suite.models.${id}=${JSON.stringify(model)}`);
    const rows = "wideseek-r1-4b,deepseek-r1-671b,search-r1-7b,asearcher-7b";
    const settings = sets(...small, "eval.maxTasks=1", ...overrides);
    const result = await run(
      "--suite",
      "paper-table1",
      "--rows",
      rows,
      "--config",
      config,
      "--run-dir",
      folder,
      ...settings,
    );
    expect(result.code).toBe(1);
    expect(result.error).toContain("failed: rows that could not run: search-r1-7b");
    expect(result.out).toContain(
      "(wideseek-r1-4b): not run, missing: the weights of wideseek_r1_4b: no model in models/none (suite.models.wideseek_r1_4b.directory)",
    );
    expect(result.out).toContain(
      "the endpoint of deepseek_r1 (suite.models.deepseek_r1.baseUrl); the API key of deepseek_r1 in the environment variable NOT_THERE_KEY",
    );
    expect(result.out).toMatch(/\(search-r1-7b\): failed: all 1 episodes failed; the last one says: .*127\.0\.0\.1:9/);
    const report = await readReport(folder);
    expect(report.rows.map(({ status }) => status)).toEqual(["failed", "done", "missing", "missing"]);
  });
});

it("paper-table2 scores single facts, average and sets", async () => {
  const folder = path.join(directory, "table2");
  const settings = sets(...small, "data.numHeldOutTables=0", "data.numHeldOutFacts=2");
  const { code, out, error } = await run(
    "--suite",
    "paper-table2",
    "--config",
    config,
    "--run-dir",
    folder,
    ...settings,
  );
  expect(code).toBe(0);
  const report = await readReport(folder);
  // One config serves both tables.
  expect(error).toContain("suite.models: not in this suite: deepseek_r1; it has wideseek_r1_4b, ");
  expect(report.rows).toHaveLength(10);
  for (const { id, status, workflow, figures } of report.rows) {
    expect(status, id).toBe("done");
    if (!workflow.endsWith("seek")) expect(figures.average?.ours?.mean, id).toBe(100);
  }
  expect(out).toMatch(/WideSeek-R1-4B +several agents +\S+ +\d+\.\d \(59\.0\) +- \(56\.1\)/);
});

it("lead and subagents on two engines with equal weights do what they do on one", async () => {
  const folder = path.join(directory, "ablation");
  const settings = sets(...small, "eval.maxTasks=2");
  const rows = "both,lead-only";
  const result = await run(
    "--suite",
    "agent-ablation",
    "--rows",
    rows,
    "--config",
    config,
    "--run-dir",
    folder,
    ...settings,
  );
  expect(result.code).toBe(0);
  const agents = async (row: string): Promise<unknown> => {
    const lines = (await readFile(path.join(folder, `eval/${row}.episodes.jsonl`), "utf8")).trim().split("\n");
    const traces = lines.map((line) => JSON.parse(line) as { task: { instanceId: string }; agents: unknown });
    return traces.sort((a, b) => a.task.instanceId.localeCompare(b.task.instanceId)).map((trace) => trace.agents);
  };
  expect(await agents("lead-only")).toEqual(await agents("both"));
});

describe("mistakes are one line, before anything is written", () => {
  it.each([
    [["--suite", "paper-table9"], /--suite paper-table9: no such suite; known suites: .*paper-table1, paper-table2;/],
    [["--suite", "none.yaml"], /none\.yaml: cannot read the suite/],
    [["--suite", "paper-table1", "--rows", "owl-9b"], /no row owl-9b; its rows are singleseek-r1-4b, /],
    [["--suite", "paper-table1", "--model", "x"], /--model: the rows of a suite name their models/],
    [["--rows", "owl-8b"], /--rows: only a suite has rows/],
    [
      ["--suite", "paper-table1", "--set", "suite.models.owl_8b={kind: api, model: m, apiKeyEnv: sk-secret}"],
      /apiKeyEnv: must be the NAME of an environment variable/,
    ],
  ])("%j", async (argv, message) => {
    const folder = path.join(directory, "mistake");
    const needsConfig = argv.includes("--suite");
    const more = needsConfig ? ["--config", config, "--run-dir", folder] : [];
    const { code, error } = await run(...argv, ...more);
    expect(error).toMatch(message);
    expect(error).not.toContain("sk-secret");
    expect(code).toBe(2);
    expect(await readdir(directory)).not.toContain("mistake");
  });

  it.each([
    [
      "rows:\n  a: { system: A, team: single, workflow: chess, models: { default: m } }",
      /suite row a: no workflow chess; known ones are wideseek, singleseek, search-r1, /,
    ],
    [
      "rows:\n  a: { system: A, team: single, workflow: owl, models: { boss: m } }",
      /suite row a: has no role "boss"; its roles are default, planner, /,
    ],
    [
      "rows:\n  a: { system: A, team: single, workflow: owl, models: { default: n } }",
      /rows\.a\.models\.default: no model n; models are m/,
    ],
    [
      "rows:\n  a: { system: A, team: single, workflow: owl, models: { default: m }, options: { tries: 2 } }",
      /owl options: unknown key tries/,
    ],
    [
      "rows:\n  a: { system: A, team: single, workflow: owl, models: { default: m }, published: { f1: 2 } }",
      /rows\.a\.published: no column f1; columns are c/,
    ],
    [
      "rows:\n  a: { system: A, team: duo, workflow: owl, models: {} }",
      /rows\.a\.team: must be "single" or "multi", got "duo"/,
    ],
    ["rows: [", /broken YAML/],
  ])("a suite with %j", async (rows, message) => {
    const file = path.join(directory, "own.yaml");
    await writeFile(
      file,
      `title: T\ncolumns:\n  c: { label: C, measure: itemF1 }\nmodels:\n  m: { kind: local, directory: d }\n${rows}\n`,
    );
    const { code, error } = await run(
      "--suite",
      file,
      "--config",
      "configs/embedded.yaml",
      "--run-dir",
      path.join(directory, "mistake"),
    );
    expect(error).toMatch(message);
    expect(code).toBe(2);
  });
});
