// A run with a judging model, from the command line to the files: an API behind loopback that works, is dead, or repeats
// the key; our own engine; and the key in none of the files.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { runCli } from "../../packages/cli/src/run-cli.ts";
import { ScriptedServer, type ServerRequest } from "../../packages/llm/src/testing/index.ts";

const KEY = "sk-secret-0123456789abcdef";
let directory: string;
let world: string;
beforeAll(async () => {
  world = path.join(await mkdtemp(path.join(tmpdir(), "wideseek-world-")), "world");
  vi.spyOn(console, "log").mockImplementation(() => undefined);
  expect(await runCli(["world", world])).toBe(0);
  vi.restoreAllMocks();
  for (const name of ["train.jsonl", "held-out.jsonl"]) {
    const file = path.join(world, name);
    const tasks = (await readFile(file, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    // Spelled otherwise than on the pages: no answer equals it letter by letter, so the judge must be asked.
    const loud = tasks.map((task) => ({ ...task, answer: loudTable(task.answer) }));
    await writeFile(file, loud.map((task) => `${JSON.stringify(task)}\n`).join(""));
  }
}, 120_000);
afterAll(() => rm(path.dirname(world), { recursive: true, force: true }));
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-judge-"));
  vi.stubEnv("WIDESEEK_TEST_JUDGE_KEY", KEY);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true, force: true });
});

/** The cells of a Markdown table in capitals, its header as it is. */
function loudTable(answer: unknown): unknown {
  if (typeof answer !== "string" || !answer.includes("|")) return answer;
  let numRows = 0;
  return answer
    .split("\n")
    .map((line) => (line.includes("|") && ++numRows > 2 ? line.toUpperCase() : line))
    .join("\n");
}

async function run(command: string, ...settings: string[]): Promise<{ code: number; said: string }> {
  let said = "";
  const keep = (text: unknown): boolean => {
    said += `${text}\n`;
    return true;
  };
  const spies = [
    vi.spyOn(process.stderr, "write").mockImplementation(keep),
    vi.spyOn(console, "log").mockImplementation(keep),
  ];
  const small = [
    "eval.samples=1",
    "eval.maxTasks=6",
    "eval.workflows=[mas]",
    "eval.judgeAttempts=1",
    "engine.device=cpu",
    "data.source=files",
    `data.corpus=${world}/corpus/pages.jsonl`,
    `data.trainTasks=${world}/train.jsonl`,
    `data.heldOutTasks=${world}/held-out.jsonl`,
  ];
  const set = [...small, ...settings].flatMap((setting) => ["--set", setting]);
  try {
    const code = await runCli([
      command,
      "--config",
      "configs/embedded.yaml",
      "--run-dir",
      path.join(directory, "run"),
      ...set,
    ]);
    return { code, said };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

async function files(): Promise<Map<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(
      names.map(async (name) => [path.relative(directory, name), await readFile(name, "latin1")] as const),
    ),
  );
}

/** Grades everything right. */
function kindJudge({ messages }: ServerRequest): string {
  const json = /<data>\n(.*)\n<\/data>/.exec(messages[1]?.content ?? "")?.[1];
  const data = JSON.parse(json ?? "{}");
  if (data.items) return JSON.stringify({ grades: data.items.map(({ id }: { id: string }) => ({ id, grade: 1 })) });
  if (data.predicted) {
    const matches = data.predicted.map(({ id }: { id: string }, index: number) => ({
      id,
      match: data.reference[index % data.reference.length].id,
    }));
    return JSON.stringify({ analysis: KEY, matches });
  }
  return '{"correct": true}';
}

const api = (server: ScriptedServer): string[] => [
  "judge.kind=api",
  `judge.baseUrl=${server.baseUrl}`,
  "judge.model=scripted",
  "judge.apiKeyEnv=WIDESEEK_TEST_JUDGE_KEY",
];
const evaluation = async (): Promise<Record<string, unknown> & { numUnjudged: number; numEpisodes: number }> =>
  JSON.parse(await readFile(path.join(directory, "run/eval/mas.json"), "utf8"));

describe("a judge behind an API", () => {
  it("judges, shows its costs, and the key is in no file and no line", async () => {
    await using server = await ScriptedServer.start(kindJudge);
    const cache = path.join(directory, "cache/replies.sqlite");
    const { code, said } = await run("eval", ...api(server), `judge.cacheFile=${cache}`);
    expect(said).not.toMatch(/^error/m);
    expect(code).toBe(0);
    expect((await evaluation()).numUnjudged).toBe(0);
    expect(said).toMatch(/judge scripted: \d+ calls, \d+ from the cache, 0 failed/);
    expect(server.numRequests).toBeGreaterThan(0);
    expect(server.requests.every(({ headers }) => headers.authorization === `Bearer ${KEY}`)).toBe(true);
    const written = await files();
    expect([...written.keys()]).toContain("run/config.yaml");
    expect(JSON.parse(written.get("run/models.json") ?? "{}")).toMatchObject({ "judge/failed_calls": 0 });
    expect(written.get("run/config.yaml")).toContain("WIDESEEK_TEST_JUDGE_KEY");
    for (const [name, text] of written) expect(text.includes(KEY), name).toBe(false);
    expect(said).not.toContain(KEY);
  });

  it("that dies scores nothing: every answer that needs it stays without judgement", async () => {
    await using server = await ScriptedServer.start(({ index }) =>
      index === 0 ? "ready" : { fault: "status", status: 503, body: `down, ${KEY}` },
    );
    const { code, said } = await run("eval", ...api(server), "judge.maxAttempts=1", "judge.deadlineSeconds=1");
    expect(said).toMatch(/^failed: the judge gave no judgement at all.*eval --resume/m);
    expect(said).toMatch(/^(item F1|fact) avg@1 +[\d.-]+ \[0\.\d+–[01]\.\d+\]$/m);
    expect(said).toMatch(/^warning: In brackets: /m);
    expect(code).toBe(1);
    const report = await evaluation();
    expect(report.numUnjudged).toBeGreaterThan(0);
    const text = (await files()).get("run/eval/mas.json") ?? "";
    expect(text).toMatch(/HTTP status 503/);
    expect(text + said).not.toContain(KEY);
  });

  it.each(["eval", "train"])("that is dead, or refuses the key, is one line before %s begins", async (command) => {
    for (const status of [401, 503]) {
      await using server = await ScriptedServer.start(() => ({ fault: "status", status, body: `no, ${KEY}` }));
      const { code, said } = await run(command, ...api(server), "judge.maxAttempts=1");
      expect(code).toBe(2);
      const hint = status === 401 ? "; is the key in WIDESEEK_TEST_JUDGE_KEY right\\?" : "";
      expect(said).toMatch(
        new RegExp(`^error WS_IO: judge: http://127.* HTTP status ${status}: no, \\[API key\\].*${hint}$`, "m"),
      );
      expect(server.numRequests).toBe(1);
      expect([...(await files()).keys()].filter((name) => !/lock/i.test(name))).toEqual([]);
    }
  });

  it("that is away does not stop a run whose cache has its replies", async () => {
    const cache = path.join(directory, "cache/replies.sqlite");
    let isAway = false;
    await using server = await ScriptedServer.start((request) =>
      isAway ? { fault: "status", status: 503, body: "away" } : kindJudge(request),
    );
    const settings = [...api(server), `judge.cacheFile=${cache}`, "judge.maxAttempts=1"];
    expect((await run("eval", ...settings)).code).toBe(0);
    const { numRequests } = server;
    const before = await evaluation();
    await rm(path.join(directory, "run"), { recursive: true });
    isAway = true;
    expect((await run("eval", ...settings)).code).toBe(0);
    expect(server.numRequests).toBe(numRequests);
    expect((await evaluation()).measures).toEqual(before.measures);
  });

  it("without its key is refused before anything is written", async () => {
    vi.stubEnv("WIDESEEK_TEST_JUDGE_KEY", "");
    await using server = await ScriptedServer.start(kindJudge);
    const { code, said } = await run("eval", ...api(server));
    expect(code).toBe(2);
    expect(said).toMatch(/^error WS_INVALID_ARGUMENT: .*WIDESEEK_TEST_JUDGE_KEY is not set/m);
    expect([...(await files()).keys()].filter((name) => !/lock/i.test(name))).toEqual([]);
  });

  it("judges training too, and its calls are in the metrics", async () => {
    await using server = await ScriptedServer.start(kindJudge);
    const small = [
      "train.steps=1",
      "train.questionsPerStep=1",
      "train.groupSize=4",
      "train.evalEvery=0",
      "data.heldOutTasks=null",
    ];
    const { code, said } = await run("train", ...api(server), ...small);
    expect(said).not.toMatch(/^error/m);
    expect(code).toBe(0);
    const row = JSON.parse((await files()).get("run/metrics.jsonl") ?? "");
    expect(row).toMatchObject({ "reward/unjudged": 0, "judge/failed_calls": 0 });
    expect(row["judge/calls"]).toBeGreaterThanOrEqual(0);
  });
});

describe("a judge on our own engine", () => {
  it("that cannot judge leaves episodes without judgement: the run comes to its end, and says so", async () => {
    const local = [
      "judge.kind=local",
      "judge.directory=models/wideseek-tiny",
      "judge.engine.device=cpu",
      "judge.maxTokens=40",
    ];
    const { code, said } = await run("eval", ...local, "judge.maxReadings=1", "eval.maxTasks=3");
    expect(said).not.toMatch(/^error/m);
    expect(said).toMatch(/^failed: the judge gave no judgement at all/m);
    expect(code).toBe(1);
    expect(said).toMatch(/judge models\/wideseek-tiny: \d+ calls/);
    expect((await evaluation()).numEpisodes).toBe(3);
  });
});
