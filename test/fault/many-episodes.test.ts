// 1,000 episodes at once against tools and a judge that fail: every one ends, and no outage is a score.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { runEpisode } from "../../packages/agents/src/index.ts";
import { runEvaluation } from "../../packages/core/src/evaluation-run.ts";
import type { EvaluationReport } from "../../packages/eval/src/index.ts";
import { rewardOptionsSchema } from "../../packages/rewards/src/index.ts";
import { searchTools } from "../../packages/tools/src/index.ts";
import { FaultyBackend, hillTask, issueFaults, OutageJudge, plainChat, scriptedTeam } from "./faults.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "many-episodes-"));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(directory, { recursive: true });
});

interface Result {
  report: EvaluationReport;
  backend: FaultyBackend;
  judge: OutageJudge;
}

/** Runs the evaluation under the test's clock, which moves only when nothing else can. */
async function evaluate(numEpisodes: number, judgeAttempts: number, outageSeconds: number): Promise<Result> {
  const backend = new FaultyBackend(issueFaults, 7);
  const tools = searchTools({ backend, options: { timeoutSeconds: 20 } });
  let start: number | undefined;
  // From the first episode on.
  const judge = new OutageJudge(() => start !== undefined && Date.now() < start + outageSeconds * 1000);
  const policy = scriptedTeam(plainChat);
  const run = runEvaluation({
    directory,
    name: "faults",
    label: "faults",
    model: "scripted",
    tasks: Array.from({ length: numEpisodes / 4 }, (_, index) => hillTask(index)),
    settings: { samples: 4, concurrency: numEpisodes, seed: 1, judgeAttempts, traces: 2, traceSamples: 1 },
    rewards: rewardOptionsSchema.parse({}),
    judge,
    keep: "report",
    progress: { write: () => true },
    signal: new AbortController().signal,
    decode: plainChat.decode,
    runEpisode: (task, sample, seed) => {
      start ??= Date.now();
      return runEpisode({ policy, chat: plainChat, tools, task, sample, seed, prompts: "compact" });
    },
  });
  let done = false;
  const settle = (): void => {
    done = true;
  };
  run.then(settle, settle);
  while (!done) {
    for (let turn = 0; turn < 40; turn++) await new Promise((resolve) => setImmediate(resolve));
    await vi.advanceTimersByTimeAsync(500);
  }
  return { report: (await run).report, backend, judge };
}

const rewardsOf = (report: EvaluationReport) =>
  report.tasks.flatMap((task) => task.episodes.map(({ reward }) => reward));

describe("1,000 episodes at once under faults", { timeout: 300_000 }, () => {
  it("all end and are scored right, though the judge was away for a minute", async () => {
    const { report, backend, judge } = await evaluate(1000, 8, 60);
    expect(report).toMatchObject({ numEpisodes: 1000, numUnjudged: 0, numTasks: 250 });
    expect(rewardsOf(report).filter(({ score }) => score === 1)).toHaveLength(1000);
    expect(report.statistics.leadStopReasons).toEqual({ answered: 1000 });
    expect(report.statistics.subagentStopReasons).toEqual({ answered: 2000 });
    expect(judge.numFailed).toBeGreaterThan(500);
    // Timers of what hangs are cleared: nothing is left behind.
    expect(vi.getTimerCount()).toBe(0);

    const { errors, hangs, garbage } = backend.counts;
    expect(Math.min(errors, hangs, garbage)).toBeGreaterThan(20);
    const { agents, numCleanEpisodes } = report.failures;
    const count = (part: RegExp): number =>
      agents.filter(({ kind }) => part.test(kind)).reduce((sum, each) => sum + each.count, 0);
    expect(count(/ECONNREFUSED/)).toBe(errors);
    expect(count(/something else than hits/)).toBeGreaterThan(10);
    // In both languages of the tasks.
    expect(count(/no answer within|秒内没有响应/)).toBe(hangs);
    expect(numCleanEpisodes).toBeGreaterThan(100);
    expect(numCleanEpisodes).toBeLessThan(1000);
  });

  it("leave out what could not be judged in time, and count it", async () => {
    const { report } = await evaluate(200, 1, 1);
    expect(report.numUnjudged).toBeGreaterThan(50);
    expect(report.numUnjudged).toBeLessThan(200);
    const judged = rewardsOf(report).filter((reward) => reward.judged);
    expect(judged).toHaveLength(200 - report.numUnjudged);
    expect(judged.every(({ score }) => score === 1)).toBe(true);
    expect(report.measures.itemF1?.avg.mean).toBe(1);
    expect(report.failures.unjudged).toEqual([
      { kind: expect.stringContaining("judge outage: HTTP # from URL"), count: report.numUnjudged },
    ]);
  });
});
