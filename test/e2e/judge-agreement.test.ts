// The rule judge beside a judging model by one command: over the answers of an evaluation, and over the scorer cases.
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { runCli } from "../../packages/cli/src/run-cli.ts";
import { formatConfig, loadConfig } from "../../packages/config/src/index.ts";
import { ScriptedServer, type ServerRequest } from "../../packages/llm/src/testing/index.ts";
import { sharedData } from "../shared-data.ts";

let directory: string;
let server: ScriptedServer;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-agreement-"));
});
afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** The judge stated with the scorer cases: equal but for case, white space, Markdown marks and a final period. */
function stubForm(text: string): string {
  const plain = text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[*_`]/g, "")
    .replace(/\p{White_Space}/gu, "");
  return plain.replace(/\.$/, "");
}

function stubJudge({ messages }: ServerRequest): string {
  // Asked whether it is there.
  if (messages.length === 1) return "ready";
  const data = JSON.parse(/<data>\n(.*)\n<\/data>/.exec(messages[1]?.content ?? "")?.[1] ?? "null");
  const same = (a: string, b: string): boolean => stubForm(a) === stubForm(b);
  type Entry = { id: string; text: string; response: string; target: string };
  if (data.items) {
    const grades = data.items.map((item: Entry) => ({ id: item.id, grade: same(item.response, item.target) ? 1 : 0 }));
    return JSON.stringify({ grades });
  }
  if (data.predicted) {
    const match = ({ text }: Entry): string | null => data.reference.find((r: Entry) => same(r.text, text))?.id ?? null;
    return JSON.stringify({ matches: data.predicted.map((entry: Entry) => ({ id: entry.id, match: match(entry) })) });
  }
  return JSON.stringify({ correct: data.answers.some((answer: string) => same(answer, data.response)) });
}

async function agreement(
  ...argv: string[]
): Promise<{ code: number; said: string; report: Record<string, never> & { [key: string]: unknown } }> {
  let said = "";
  const keep = (text: unknown): boolean => {
    said += `${text}\n`;
    return true;
  };
  const spies = [
    vi.spyOn(process.stderr, "write").mockImplementation(keep),
    vi.spyOn(console, "log").mockImplementation(keep),
  ];
  const json = path.join(directory, "agreement.json");
  const set = ["judge.kind=api", `judge.baseUrl=${server.baseUrl}`, "judge.model=stub", "judge.maxAttempts=1"];
  try {
    const code = await runCli(["judge-agreement", ...set.flatMap((each) => ["--set", each]), "--json", json, ...argv]);
    return { code, said, report: existsSync(json) ? JSON.parse(await readFile(json, "utf8")) : {} };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const agent = {
  agentId: "single",
  role: "single",
  stopReason: "answered",
  numTurns: 1,
  numSampledTokens: 1,
  numContextTokens: 1,
  longestTurnTokens: 1,
  numPromptTokens: 1,
  numSubagentCalls: 0,
  numSearches: 0,
  numAccesses: 0,
  numMalformedCalls: 0,
  errors: [],
};
const unscored = { judged: true, score: 0, formatReward: 0, toolReward: 0, lengthPenalty: 0, total: 0, reason: "" };

/** A run folder with three answers: one that both judges take for right, one for wrong, one about which they differ. */
async function writeRun(): Promise<string> {
  const run = path.join(directory, "run");
  await mkdir(path.join(run, "eval"), { recursive: true });
  const tasks = ["Ann Lee", "Bob", "3 July 2001"].map((answer, index) => ({
    instance_id: `q${index}`,
    question: `Question ${index}?`,
    answer: [answer],
    is_markdown: false,
  }));
  const tasksFile = path.join(directory, "tasks.jsonl");
  await writeFile(tasksFile, tasks.map((task) => `${JSON.stringify(task)}\n`).join(""));
  await writeFile(path.join(directory, "pages.jsonl"), `${JSON.stringify({ url: "u", title: "t", contents: "c" })}\n`);
  const config = await loadConfig({
    overrides: ["data.source=files", `data.corpus=${directory}/pages.jsonl`, `data.heldOutTasks=${tasksFile}`],
  });
  await writeFile(path.join(run, "config.yaml"), formatConfig(config));
  const answers = ["ANN LEE", "Carl", "2001-07-03"];
  const results = answers.map((answer, index) => ({
    instanceId: `q${index}`,
    sample: 0,
    seed: "1",
    workflow: "sa",
    reward: unscored,
    answer: `It is \\boxed{${answer}}`,
    seconds: 1,
    agents: [agent],
  }));
  const failed = { ...results[0], sample: 1, agents: [{ ...agent, stopReason: "turns" }] };
  const lines = [{ evaluation: "x" }, ...results, failed];
  await writeFile(path.join(run, "eval/sa.results.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return run;
}

describe("judge-agreement", () => {
  it("over an evaluation's folder: confusion, kappa, examples, costs", async () => {
    server = await ScriptedServer.start(stubJudge);
    const { code, said, report } = await agreement("--run", await writeRun());
    expect(said).not.toMatch(/^error/m);
    expect(code).toBe(0);
    expect(report).toMatchObject({
      numAnswers: 3,
      numUnjudged: 0,
      decisions: { answer: { numDecisions: 3, bothRight: 1, bothWrong: 1, onlyFirstRight: 1, onlySecondRight: 0 } },
      scores: { numBoth: 3 },
      usage: { numFailedCalls: 0 },
    });
    expect(said).toMatch(/answers +3 +1 +1 +1 +0 +0\.667 +0\.400 +0/);
    expect(said).toMatch(/answers, rule right, judge wrong: "2001-07-03" \/ "3 July 2001"/);
    expect(said).toMatch(/costs: \d+ calls/);
  });

  it("a judge that dies is counted, not scored; one that is dead is one clear error", async () => {
    server = await ScriptedServer.start(() => ({ fault: "status", status: 401, body: "no" }));
    const dead = await agreement("--run", await writeRun());
    expect(dead).toMatchObject({ code: 2, said: expect.stringMatching(/^error WS_IO: judge: .*HTTP status 401: no/m) });
    await server[Symbol.asyncDispose]();
    server = await ScriptedServer.start(({ index }) => (index === 0 ? "ready" : { fault: "status", status: 500 }));
    const { code, report } = await agreement("--run", await writeRun(), "--set", "judge.deadlineSeconds=1");
    expect(code).toBe(0);
    expect(report).toMatchObject({
      numUnjudged: 3,
      decisions: { answer: { numDecisions: 0, unjudged: 3, kappa: null } },
      scores: { numBoth: 0, judge: null },
    });
  });

  it.each([
    [[], /give either a run folder or a file of cases/],
    [["--run", "/no/such/run"], /no run there/],
    [["--cases", "/no/such/file"], /no such file/],
    [["--cases", "x", "--run", "y"], /give either/],
    [["--cases", "x", "--concurrency", "0"], /--concurrency 0/],
  ])("%j is one clear error", async (argv, message) => {
    server = await ScriptedServer.start(stubJudge);
    const { code, said } = await agreement(...argv);
    expect(code).toBe(2);
    expect(said).toMatch(message);
  });

  const cases = path.join(sharedData, "scorer-cases/widesearch-scorer-cases.jsonl");
  it.skipIf(!existsSync(cases))("over the scorer cases: the stub judge agrees with ours nearly always", async () => {
    server = await ScriptedServer.start({ script: stubJudge, maxKept: 0 });
    const { code, report } = await agreement("--cases", cases);
    expect(code).toBe(0);
    const { decisions } = report as unknown as { decisions: Record<string, { numDecisions: number; kappa: number }> };
    expect(Number(report.numAnswers) + Number(report.numLeftOut)).toBe(387);
    expect(report.numLeftOut).toBeLessThan(20);
    expect(report.numUnjudged).toBe(0);
    expect(decisions.name?.numDecisions).toBeGreaterThan(100);
    expect(decisions.cell?.kappa).toBeGreaterThan(0.8);
    expect(decisions.name?.kappa).toBeGreaterThan(0.8);
  });
});
