// The episodes of a step and what they earned: which run, when the last ones are paused, what goes on in the next step.
// Owns no training.
import { type Episode, isPaused, type PausedEpisode, type RewardBreakdown, type Task } from "@wideseek/spec";
import { mapStages } from "./concurrent.ts";
import { judgeAgain } from "./judge-again.ts";
import type { TrainOptions } from "./options.ts";
import { deriveSeed } from "./seeds.ts";

/** What one episode is made from; the seed alone decides every sampled token. */
export interface EpisodeRequest {
  task: Task;
  sample: number;
  seed: bigint;
  signal: AbortSignal;
  /** When it aborts, the episode may stop at its next turns and come back paused. Absent: it runs to its end. */
  pause?: AbortSignal | undefined;
  /** Goes on from here. */
  resume?: PausedEpisode | undefined;
}

/** The parts that a rollout joins. */
export interface RolloutParts {
  /** Never rejects for a bad rollout, only on abort or a broken engine. */
  runEpisode(request: EpisodeRequest): Promise<Episode | PausedEpisode>;
  /** Called as soon as an episode has ended, while others still run. */
  score(episode: Episode, signal: AbortSignal): Promise<RewardBreakdown>;
  /** The task at a position of the endless, seeded order. */
  taskAt(cursor: number): Task;
  /** Pauses before unjudged episodes are judged again; default: timers. */
  sleep?: ((seconds: number, signal: AbortSignal) => Promise<void>) | undefined;
  options: TrainOptions;
  seed: number;
}

/** One episode of a group: ended and scored, paused, or not begun. */
export interface GroupMember {
  seed: bigint;
  ended: { episode: Episode; reward: RewardBreakdown } | null;
  paused: PausedEpisode | null;
}

/** The episodes of one question, in the order of their samples. */
export interface RolloutGroup {
  task: Task;
  members: readonly GroupMember[];
}

/** Where the sampling of questions stands. */
export interface RolloutPosition {
  /** Questions drawn so far. */
  cursor: number;
  /** Groups that have begun and are not whole; they go first in the next step. */
  carried: readonly RolloutGroup[];
}

/** A batch of whole groups, in the order of their beginning. */
export interface Rollout {
  groups: readonly RolloutGroup[];
  next: RolloutPosition;
  facts: RolloutFacts;
}

export interface RolloutFacts {
  /** Until the last episode had ended or paused. */
  rolloutSeconds: number;
  /** From then until the last of them was scored. */
  rewardSeconds: number;
  numJudgedAgain: number;
  judgePauseSeconds: number;
  numPaused: number;
  numResumed: number;
}

interface Attempt {
  group: number;
  sample: number;
}

/**
 * The rollout of step number `step` (from 1): groups carried over and fresh questions, `questionsPerStep` together.
 * With `cutQuantile` the rest is paused when that share of its episodes has ended and a group is whole; a group with a
 * paused episode is carried over as a whole, for an advantage needs all rewards of its question.
 * Rejects with `signal.reason` after an abort, once everything it began has ended.
 */
export async function rollout(
  step: number,
  position: RolloutPosition,
  parts: RolloutParts,
  signal: AbortSignal,
): Promise<Rollout> {
  const { options, seed } = parts;
  const { questionsPerStep, groupSize, maxConcurrentEpisodes, cutQuantile } = options;
  const start = performance.now();
  const numFresh = questionsPerStep - position.carried.length;
  const fresh = Array.from({ length: numFresh }, (_, index): RolloutGroup => {
    const question = position.carried.length + index;
    const task = parts.taskAt(position.cursor + index);
    const members = Array.from({ length: groupSize }, (_, sample) => ({
      seed: deriveSeed("train", seed, step, question, task.instanceId, sample),
      ended: null,
      paused: null,
    }));
    return { task, members };
  });
  const groups = [...position.carried, ...fresh].map(({ task, members }) => ({ task, members: [...members] }));
  const memberOf = ({ group, sample }: Attempt): GroupMember => groups[group]?.members[sample] as GroupMember;
  const setMember = ({ group, sample }: Attempt, change: Partial<GroupMember>): void => {
    const { members } = groups[group] as (typeof groups)[number];
    members[sample] = { ...(members[sample] as GroupMember), ...change };
  };
  const attempts = groups.flatMap(({ members }, group) =>
    members.flatMap(({ ended }, sample): Attempt[] => (ended ? [] : [{ group, sample }])),
  );

  const pause = new AbortController();
  const numToEnd = cutQuantile === null ? Number.POSITIVE_INFINITY : Math.ceil(cutQuantile * attempts.length);
  const numOpen = groups.map(({ members }) => members.filter(({ ended }) => ended === null).length);
  let numEnded = 0;
  const countEnd = (group: number): void => {
    numEnded += 1;
    numOpen[group] = (numOpen[group] as number) - 1;
    if (numEnded >= numToEnd && numOpen.includes(0)) pause.abort();
  };
  let numResumed = 0;
  let lastEnd = start;
  const run = async (attempt: Attempt, abort: AbortSignal): Promise<Episode | PausedEpisode | null> => {
    // Not begun at all: it begins in the next step.
    if (pause.signal.aborted) return null;
    const { seed, paused } = memberOf(attempt);
    const task = groups[attempt.group]?.task as Task;
    const request: EpisodeRequest = { task, sample: attempt.sample, seed, signal: abort };
    if (cutQuantile !== null) request.pause = pause.signal;
    if (paused !== null) {
      request.resume = paused;
      numResumed += 1;
    }
    const episode = await parts.runEpisode(request);
    if (!isPaused(episode)) countEnd(attempt.group);
    lastEnd = performance.now();
    return episode;
  };
  let numPaused = 0;
  const settle = async (
    episode: Episode | PausedEpisode | null,
    abort: AbortSignal,
    attempt: Attempt,
  ): Promise<void> => {
    if (episode === null) return;
    if (isPaused(episode)) {
      setMember(attempt, { paused: episode });
      numPaused += 1;
      return;
    }
    setMember(attempt, { ended: { episode, reward: await parts.score(episode, abort) }, paused: null });
  };
  await mapStages(attempts, maxConcurrentEpisodes, run, settle, signal);

  const isWhole = ({ members }: RolloutGroup): boolean => members.every(({ ended }) => ended !== null);
  const judged = await judgeWhole(groups.filter(isWhole), parts, signal);
  return {
    groups: judged.groups,
    next: { cursor: position.cursor + numFresh, carried: groups.filter((group) => !isWhole(group)) },
    facts: {
      rolloutSeconds: (lastEnd - start) / 1000,
      rewardSeconds: (performance.now() - lastEnd) / 1000,
      numJudgedAgain: judged.numRetries,
      judgePauseSeconds: judged.pauseSeconds,
      numPaused,
      numResumed,
    },
  };
}

async function judgeWhole(
  groups: readonly RolloutGroup[],
  parts: RolloutParts,
  signal: AbortSignal,
): Promise<{ groups: RolloutGroup[]; numRetries: number; pauseSeconds: number }> {
  const { judgeRetrySeconds, maxConcurrentEpisodes } = parts.options;
  const ended = groups.flatMap(endedOf);
  const scoreAgain = (indices: readonly number[]): Promise<RewardBreakdown[]> =>
    mapStages(
      indices,
      maxConcurrentEpisodes,
      async (index) => (ended[index] as (typeof ended)[number]).episode,
      (episode, abort) => parts.score(episode, abort),
      signal,
    );
  const { rewards, numRetries, pauseSeconds } = await judgeAgain(
    ended.map(({ reward }) => reward),
    scoreAgain,
    { maxPauseSeconds: judgeRetrySeconds, sleep: parts.sleep, signal },
  );
  let next = 0;
  const judged = groups.map(({ task, members }) => ({
    task,
    members: members.map(({ seed, ended }) => {
      const reward = rewards[next++] as RewardBreakdown;
      return { seed, ended: ended && { ...ended, reward }, paused: null };
    }),
  }));
  return { groups: judged, numRetries, pauseSeconds };
}

/** Episodes and rewards of the members that have ended. */
export function endedOf({ members }: RolloutGroup): { episode: Episode; reward: RewardBreakdown }[] {
  return members.flatMap(({ ended }) => (ended ? [ended] : []));
}
