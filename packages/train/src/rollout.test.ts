import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  type AgentState,
  type Episode,
  isPaused,
  type PausedEpisode,
  type Task,
  type Trajectory,
} from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { trainOptionsSchema } from "./options.ts";
import { type EpisodeRequest, type RolloutParts, type RolloutPosition, rollout } from "./rollout.ts";
import { readRollouts, writeRollouts } from "./rollout-store.ts";
import { episode, trajectory } from "./testing.ts";

const options = trainOptionsSchema.parse({ questionsPerStep: 3, groupSize: 2, cutQuantile: 0.5 });
const never = new AbortController().signal;
const start: RolloutPosition = { cursor: 0, carried: [] };
const reward = (total: number) => ({
  judged: true,
  score: total,
  formatReward: 0,
  toolReward: 0,
  lengthPenalty: 0,
  total,
  reason: "",
});

/** Episodes of `slow` questions end only in the step after they began. */
function parts(overrides: Partial<RolloutParts> = {}, slow: readonly number[] = [1]): RolloutParts {
  const state = (own: Trajectory): AgentState => ({
    trajectory: own,
    ended: false,
    findings: "so far",
    lastTurn: true,
    cutOff: false,
  });
  return {
    options,
    seed: 1,
    taskAt: (cursor): Task => ({ ...episode([]).task, instanceId: `q${cursor}` }),
    runEpisode: async ({ task, sample, seed, pause, resume }: EpisodeRequest): Promise<Episode | PausedEpisode> => {
      const whole = { ...episode([trajectory([2, 3])], sample, seed), task };
      if (resume !== undefined || !slow.includes(Number(task.instanceId.slice(1)))) return whole;
      if (!pause?.aborted) await new Promise((resolve) => pause?.addEventListener("abort", resolve));
      const { trajectories, ...facts } = whole;
      return { ...facts, paused: true, agents: trajectories.map(state) };
    },
    score: async ({ seed }) => reward(Number(seed % 5n)),
    ...overrides,
  };
}

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

describe("rollout", () => {
  it("carries groups with paused episodes over, puts them first and draws fewer fresh questions", async () => {
    const first = await rollout(1, start, parts(), never);
    expect(first.groups.map(({ task }) => task.instanceId)).toEqual(["q0", "q2"]);
    expect(first.next.cursor).toBe(3);
    expect(first.next.carried.map(({ task }) => task.instanceId)).toEqual(["q1"]);
    expect(first.next.carried[0]?.members.every(({ paused }) => paused && isPaused(paused))).toBe(true);
    expect(first.facts).toMatchObject({ numPaused: 2, numResumed: 0 });

    const second = await rollout(2, first.next, parts(), never);
    expect(second.groups.map(({ task }) => task.instanceId)).toEqual(["q1", "q3", "q4"]);
    expect(second.next).toEqual({ cursor: 5, carried: [] });
    expect(second.facts).toMatchObject({ numPaused: 0, numResumed: 2 });
    const seeds = [first, second].flatMap(({ groups }) => groups.flatMap(({ members }) => members.map((m) => m.seed)));
    expect(new Set(seeds).size).toBe(10);
  });

  it("waits for a whole group, and for every episode without cutQuantile", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const inner = parts();
    // Sample 1 of every question waits: half of the episodes end, but no group is whole.
    const waiting = parts({
      runEpisode: async (request) => {
        if (request.sample === 1) await held;
        return inner.runEpisode(request);
      },
    });
    let done = false;
    const work = rollout(1, start, waiting, never).then((result) => {
      done = true;
      return result;
    });
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    expect(done).toBe(false);
    release();
    expect((await work).groups.length).toBeGreaterThan(0);
    const all = await rollout(1, start, parts({ options: { ...options, cutQuantile: null } }, []), never);
    expect(all.groups).toHaveLength(3);
  });

  it("does not begin what is still waiting when the pause comes", async () => {
    let numBegun = 0;
    const inner = parts({}, []);
    const counted = parts({
      options: { ...options, maxConcurrentEpisodes: 1 },
      runEpisode: (request) => {
        numBegun += 1;
        return inner.runEpisode(request);
      },
    });
    const { groups, next } = await rollout(1, start, counted, never);
    expect({ numBegun, whole: groups.length, carried: next.carried.length }).toEqual({
      numBegun: 3,
      whole: 1,
      carried: 2,
    });
    expect(next.carried.flatMap(({ members }) => members.map(({ ended }) => ended !== null))).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });

  it("scores an episode while others run, in no episode's slot, and keeps the order", async () => {
    let scored = (): void => {};
    const firstScore = new Promise<void>((resolve) => {
      scored = resolve;
    });
    const inner = parts({}, []);
    const result = await rollout(
      1,
      start,
      parts({
        options: { ...options, cutQuantile: null, maxConcurrentEpisodes: 2 },
        // The last episode ends only after a score, so scoring after all episodes would never end.
        runEpisode: async (request) => {
          if (request.task.instanceId === "q2" && request.sample === 1) await firstScore;
          return inner.runEpisode(request);
        },
        score: async ({ sample }) => {
          scored();
          return reward(sample);
        },
      }),
      never,
    );
    expect(result.groups.flatMap(({ members }) => members.map(({ ended }) => ended?.reward.total))).toEqual([
      0, 1, 0, 1, 0, 1,
    ]);
  });

  it("a score that fails stops the episodes and is what the rollout rejects with", async () => {
    const broken = new Error("judge");
    let stopped = 0;
    const work = rollout(
      1,
      start,
      parts({
        runEpisode: async ({ task, sample, seed, signal }) => {
          if (sample === 0) return { ...episode([trajectory([2, 3])], sample, seed), task };
          return await new Promise((_, reject) => {
            signal.addEventListener("abort", () => {
              stopped += 1;
              reject(signal.reason);
            });
          });
        },
        score: async () => Promise.reject(broken),
      }),
      never,
    );
    await expect(work).rejects.toBe(broken);
    expect(stopped).toBe(3);
  });
});

describe("stored rollouts", () => {
  it("come back exactly: paused agents, tokens, log-probabilities, versions", async () => {
    const { next, groups, facts } = await rollout(1, start, parts(), never);
    await writeRollouts(directory, { carried: next.carried, ready: { groups, facts } });
    expect(await readRollouts(directory)).toEqual({ carried: next.carried, ready: { groups, facts } });
  });

  it("leave no file when there is nothing, and are nothing where there is no file", async () => {
    await writeRollouts(directory, { carried: [], ready: null });
    expect(await readRollouts(directory)).toEqual({ carried: [], ready: null });
  });
});
