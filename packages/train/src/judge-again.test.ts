// An outage of the judge: everything is judged after it, within a budget of pauses, and nothing is scored by it.
import type { RewardBreakdown } from "@wideseek/spec";
import { describe, expect, test } from "vitest";
import { judgeAgain } from "./judge-again.ts";

const reward = (judged: boolean, total = 0): RewardBreakdown => ({
  judged,
  score: total,
  formatReward: 0,
  toolReward: 0,
  lengthPenalty: 0,
  total,
  reason: "",
});
const { signal } = new AbortController();

class Clock {
  time = 0;
  readonly pauses: number[] = [];
  sleep = async (seconds: number): Promise<void> => {
    this.pauses.push(seconds);
    this.time += seconds;
  };
}

describe("judging again", () => {
  test("only what has no judgement, in growing pauses, until all is judged", async () => {
    const clock = new Clock();
    const asked: (readonly number[])[] = [];
    const result = await judgeAgain(
      [reward(true, 1), reward(false), reward(false), reward(true, 0.5)],
      async (indices) => {
        asked.push(indices);
        return indices.map((index) => reward(clock.time >= (index === 1 ? 2 : 6), index));
      },
      { maxPauseSeconds: 1000, sleep: clock.sleep, signal },
    );
    expect(result.rewards.map(({ judged, total }) => [judged, total])).toEqual([
      [true, 1],
      [true, 1],
      [true, 2],
      [true, 0.5],
    ]);
    expect(asked).toEqual([[1, 2], [2]]);
    expect(result).toMatchObject({ numRetries: 3, pauseSeconds: 6 });
    expect(clock.pauses).toEqual([2, 4]);
  });

  test("a thousand episodes wait out a dead minute together", async () => {
    const clock = new Clock();
    const result = await judgeAgain(
      Array.from({ length: 1000 }, () => reward(false)),
      async (indices) => indices.map((index) => reward(clock.time >= 60, index)),
      { maxPauseSeconds: 300, sleep: clock.sleep, signal },
    );
    expect(result.rewards.every(({ judged }, index) => judged && result.rewards[index]?.total === index)).toBe(true);
    expect(clock.time).toBeLessThanOrEqual(62);
  });

  test("the budget ends it, and what is left stays without judgement", async () => {
    const clock = new Clock();
    const never = async (indices: readonly number[]): Promise<RewardBreakdown[]> => indices.map(() => reward(false));
    const options = { maxPauseSeconds: 100, sleep: clock.sleep, signal };
    const result = await judgeAgain([reward(false), reward(true, 1)], never, options);
    expect(result.rewards.map(({ judged }) => judged)).toEqual([false, true]);
    expect(clock.time).toBeLessThanOrEqual(100);
    const off = await judgeAgain([reward(false)], never, { ...options, maxPauseSeconds: 0 });
    expect(off).toMatchObject({ numRetries: 0, pauseSeconds: 0 });
  });

  test("an abort ends the pause", async () => {
    const reason = new Error("enough");
    const pending = judgeAgain([reward(false)], async () => [], {
      maxPauseSeconds: 100,
      signal: AbortSignal.abort(reason),
    });
    await expect(pending).rejects.toMatchObject({ name: "AbortError" });
  });
});
