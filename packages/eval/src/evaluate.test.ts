import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Episode, longestTurnTokens, type RewardBreakdown } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type EvaluateOptions, episodeSeed, evaluate } from "./evaluate.ts";
import { episodeOf, tableReward, tableTask } from "./testing.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "evaluate-"));
});
afterEach(() => rm(directory, { recursive: true }));

const tasks = ["a", "b", "c"].map(tableTask);

function options(overrides: Partial<EvaluateOptions> = {}): EvaluateOptions {
  return {
    tasks,
    samples: 2,
    concurrency: 2,
    runEpisode: async (task, sample, seed) => episodeOf(task, sample, seed),
    score: async (episode) => tableReward(episode.task.instanceId === "a" ? 1 : episode.sample / 2),
    ...overrides,
  };
}

describe("evaluate", () => {
  test("aggregates every task and sample with costs", async () => {
    const report = await evaluate(options());
    expect(report).toMatchObject({ numTasks: 3, numEpisodes: 6, numUnjudged: 0, numResumed: 0, samples: 2 });
    expect(report.measures.itemF1?.avg.mean).toBeCloseTo((1 + 0.25 + 0.25) / 3, 12);
    expect(report.measures.itemF1?.max.mean).toBeCloseTo((1 + 0.5 + 0.5) / 3, 12);
    expect(report.measures.success?.pass.mean).toBeCloseTo(1 / 3, 12);
    expect(report.statistics).toMatchObject({
      sampledTokens: 4,
      leadTurns: 2,
      turnsPerSubagent: 3,
      numSubagents: 1,
      numSearches: 2,
      maxContextTokens: 5,
      leadStopReasons: { answered: 6 },
    });
    expect(report.tasks[1]?.episodes.map((episode) => episode.sample)).toEqual([0, 1]);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  test("keeps to the concurrency and gives every episode its own seed", async () => {
    let running = 0;
    let most = 0;
    const seeds = new Set<bigint>();
    await evaluate(
      options({
        samples: 5,
        concurrency: 3,
        runEpisode: async (task, sample, seed) => {
          most = Math.max(most, ++running);
          // Episodes start one by one, in turns of the event loop.
          for (let turn = 0; turn < 6; turn++) await new Promise(setImmediate);
          running--;
          seeds.add(seed);
          return episodeOf(task, sample, seed);
        },
      }),
    );
    expect(most).toBe(3);
    expect(seeds.size).toBe(15);
    expect(seeds).toContain(episodeSeed(0n, "b", 4));
  });

  test("counts the unjudged apart", async () => {
    const report = await evaluate(
      options({ score: async (episode) => tableReward(1, episode.task.instanceId !== "b") }),
    );
    expect(report).toMatchObject({ numUnjudged: 2, numTasksWithoutJudgement: 1 });
    expect(report.measures.itemF1?.avg).toMatchObject({ mean: 1, numTasks: 2 });
  });

  test("asks the judge again before an episode counts as not judged", async () => {
    const pauses: number[] = [];
    let numScored = 0;
    const judgeAgain = {
      attempts: 3,
      pause: async (numAttempts: number) => {
        pauses.push(numAttempts);
      },
    };
    const score = async (episode: Episode) => {
      numScored++;
      // "a" is judged at the second attempt, "b" never.
      const { instanceId } = episode.task;
      return tableReward(1, instanceId === "c" || (instanceId === "a" && numScored === 2));
    };
    const report = await evaluate(options({ samples: 1, concurrency: 1, judgeAgain, score }));
    expect(pauses).toEqual([1, 1, 2]);
    expect(report).toMatchObject({ numUnjudged: 1, measures: { itemF1: { avg: { mean: 1, numTasks: 2 } } } });
    expect(report.failures.unjudged).toEqual([{ kind: "rule judge", count: 1 }]);
  });

  test("scores languages and sets apart, and sets as equals", async () => {
    const mixed = [
      { ...tableTask("a"), dataset: "x" },
      { ...tableTask("b"), dataset: "y" },
      { ...tableTask("c"), dataset: "y", language: "zh" as const },
    ];
    const report = await evaluate(
      options({ tasks: mixed, score: async ({ task }) => tableReward(task.instanceId === "a" ? 1 : 0) }),
    );
    const found = report.parts.map(({ by, value, numTasks, measures }) => [
      by,
      value,
      numTasks,
      measures.itemF1?.avg.mean,
    ]);
    expect(found).toEqual([
      ["language", "en", 2, 0.5],
      ["language", "zh", 1, 0],
      ["dataset", "x", 1, 1],
      ["dataset", "y", 2, 0],
    ]);
    expect(report.macro?.itemF1?.avg.mean).toBe(0.5);
    expect(report.measures.itemF1?.avg.mean).toBeCloseTo(1 / 3, 12);
    expect(report.tasks[2]).toMatchObject({ language: "zh", dataset: "y" });
  });

  test("after a failure nothing new starts and the rest in flight ends first", async () => {
    const ended: string[] = [];
    let started = 0;
    const second = Promise.withResolvers<void>();
    const failing = evaluate(
      options({
        concurrency: 2,
        runEpisode: async (task, sample, seed) => {
          if (started++ === 0) {
            await second.promise;
            throw new Error("engine broken");
          }
          second.resolve();
          await new Promise(setImmediate);
          ended.push(`${task.instanceId}${sample}`);
          return episodeOf(task, sample, seed);
        },
      }),
    );
    await expect(failing).rejects.toThrow("engine broken");
    expect(ended).toEqual(["a1"]);
  });

  test("rejects with the reason of an abort", async () => {
    const controller = new AbortController();
    const reason = new Error("stopped by hand");
    const run = evaluate(
      options({
        concurrency: 1,
        signal: controller.signal,
        runEpisode: async (task, sample, seed) => {
          controller.abort(reason);
          return episodeOf(task, sample, seed);
        },
      }),
    );
    await expect(run).rejects.toBe(reason);
  });

  test.each([
    [{ tasks: [] }, /no tasks/],
    [{ samples: 0 }, /samples is 0/],
    [{ concurrency: 1.5 }, /concurrency is 1.5/],
    [{ tasks: [tableTask("a"), tableTask("a")] }, /"a" is there twice/],
  ])("refuses %j", async (overrides, message) => {
    await expect(evaluate(options(overrides))).rejects.toMatchObject({ code: "WS_INVALID_ARGUMENT", message });
  });
});

describe("memory", () => {
  test("long traces and answers are on disk, not in the report", async () => {
    const resumeFile = join(directory, "results.jsonl");
    const answer = "x".repeat(100_000);
    const report = await evaluate(
      options({
        tasks: Array.from({ length: 50 }, (_, index) => tableTask(`t${index}`)),
        resumeFile,
        runEpisode: async (task, sample, seed) => {
          const episode = episodeOf(task, sample, seed);
          for (const trajectory of episode.trajectories) trajectory.answer = answer;
          return episode;
        },
      }),
    );
    expect(JSON.stringify(report).length).toBeLessThan(100 * 700);
    expect((await readFile(resumeFile, "utf8")).length).toBeGreaterThan(100 * 100_000);
  });
});

describe("resuming", () => {
  test("an evaluation stopped anywhere runs every episode exactly once and reports the same", async () => {
    const expected = await evaluate(options());
    for (let stopAfter = 0; stopAfter <= 6; stopAfter++) {
      const resumeFile = join(directory, `stop-${stopAfter}.jsonl`);
      const ran: string[] = [];
      const runEpisode = async (task: Episode["task"], sample: number, seed: bigint): Promise<Episode> => {
        if (ran.length === stopAfter) throw new Error("killed");
        ran.push(`${task.instanceId}${sample}`);
        return episodeOf(task, sample, seed);
      };
      await evaluate(options({ resumeFile, concurrency: 1, runEpisode })).catch(() => undefined);
      const recordAll = async (task: Episode["task"], sample: number, seed: bigint): Promise<Episode> => {
        ran.push(`${task.instanceId}${sample}`);
        return episodeOf(task, sample, seed);
      };
      const report = await evaluate(options({ resumeFile, runEpisode: recordAll }));
      expect([...ran].sort()).toEqual(["a0", "a1", "b0", "b1", "c0", "c1"]);
      expect(report.numResumed).toBe(stopAfter);
      expect({ ...report, numResumed: 0, seconds: 0 }).toEqual({ ...expected, numResumed: 0, seconds: 0 });
    }
  });

  test("a line cut by a crash is dropped and its episode runs again", async () => {
    const resumeFile = join(directory, "results.jsonl");
    await evaluate(options({ resumeFile }));
    const whole = await readFile(resumeFile, "utf8");
    await writeFile(resumeFile, whole.slice(0, -20));
    const report = await evaluate(options({ resumeFile }));
    expect(report.numResumed).toBe(5);
    const again = await readFile(resumeFile, "utf8");
    expect(again.split("\n")).toHaveLength(whole.split("\n").length);
    expect((await evaluate(options({ resumeFile }))).numResumed).toBe(6);
  });

  test("what could not be judged is judged later, from the answer that was kept", async () => {
    const resumeFile = join(directory, "results.jsonl");
    const rewards = new Map<string, RewardBreakdown>();
    const score = async (episode: Episode, up: boolean): Promise<RewardBreakdown> => {
      const [lead, subagent] = episode.trajectories;
      // All that rewards depend on: the answer, how agents ended, their accesses and longest turns.
      const seen = [lead?.answer, lead?.stopReason, subagent?.numAccesses, lead && longestTurnTokens(lead)];
      const reward = { ...tableReward(1, up || episode.task.instanceId !== "b"), reason: JSON.stringify(seen) };
      const key = `${episode.task.instanceId}${episode.sample}`;
      expect(reward.reason).toBe((rewards.get(key) ?? reward).reason);
      rewards.set(key, reward);
      return reward;
    };
    const outage = await evaluate(options({ resumeFile, score: (episode) => score(episode, false) }));
    expect(outage.numUnjudged).toBe(2);
    const ran = vi.fn(options().runEpisode);
    for (const numResumed of [4, 6]) {
      const again = options({ resumeFile, runEpisode: ran, score: (episode) => score(episode, true) });
      const report = await evaluate(again);
      expect(report).toMatchObject({ numResumed, numUnjudged: 0, numEpisodes: 6 });
      expect(report.statistics).toEqual(outage.statistics);
    }
    expect(ran).not.toHaveBeenCalled();
  });

  test("more samples go on from fewer", async () => {
    const resumeFile = join(directory, "results.jsonl");
    await evaluate(options({ resumeFile, samples: 1 }));
    const report = await evaluate(options({ resumeFile, samples: 3 }));
    expect(report).toMatchObject({ numResumed: 3, numEpisodes: 9 });
  });

  test("refuses another label, another seed, a broken line and a doubled episode", async () => {
    const resumeFile = join(directory, "results.jsonl");
    await evaluate(options({ resumeFile, label: "before" }));
    await expect(evaluate(options({ resumeFile, label: "after" }))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: /"before".*"after"/,
    });
    await expect(evaluate(options({ resumeFile, label: "before", seed: 1n }))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
    });
    const whole = await readFile(resumeFile, "utf8");
    await writeFile(resumeFile, `${whole}not json\n`);
    await expect(evaluate(options({ resumeFile, label: "before" }))).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: /results\.jsonl:8/,
    });
    const lines = whole.split("\n");
    await writeFile(resumeFile, `${[...lines.slice(0, -1), lines[1]].join("\n")}\n`);
    await expect(evaluate(options({ resumeFile, label: "before" }))).rejects.toMatchObject({ code: "WS_CORRUPT_FILE" });
  });
});
