// What becomes of episodes that could not be judged: all of them together are judged again after growing pauses, within a
// budget. Owns no scoring.
import { setTimeout as timersSleep } from "node:timers/promises";
import type { RewardBreakdown } from "@wideseek/spec";

export interface JudgeAgainOptions {
  /** Pauses of one call, summed; 0 = nothing is judged again. */
  maxPauseSeconds: number;
  /** Rejects when `signal` aborts; a parameter, so that tests need not wait. */
  sleep?: ((seconds: number, signal: AbortSignal) => Promise<void>) | undefined;
  signal: AbortSignal;
}

export interface JudgedAgain {
  /** In the order of the episodes; those that are still without judgement say so. */
  rewards: RewardBreakdown[];
  numRetries: number;
  pauseSeconds: number;
}

const firstPauseSeconds = 2;
const longestPauseSeconds = 60;

/**
 * Judges again those of `rewards` that have `judged: false`. One pause for all of them: what keeps a judge from judging
 * is rarely about one episode, and pauses of each would add up.
 */
export async function judgeAgain(
  rewards: readonly RewardBreakdown[],
  scoreAgain: (indices: readonly number[]) => Promise<readonly RewardBreakdown[]>,
  { maxPauseSeconds, sleep = pause, signal }: JudgeAgainOptions,
): Promise<JudgedAgain> {
  const known = [...rewards];
  let numRetries = 0;
  let pauseSeconds = 0;
  for (let round = 0; ; round++) {
    const open = known.flatMap((reward, index) => (reward.judged ? [] : [index]));
    const next = Math.min(longestPauseSeconds, firstPauseSeconds * 2 ** round);
    if (open.length === 0 || pauseSeconds + next > maxPauseSeconds) break;
    await sleep(next, signal);
    pauseSeconds += next;
    numRetries += open.length;
    const scored = await scoreAgain(open);
    for (const [position, index] of open.entries())
      known[index] = scored[position] ?? (known[index] as RewardBreakdown);
  }
  return { rewards: known, numRetries, pauseSeconds };
}

async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  await timersSleep(seconds * 1000, undefined, { signal });
}
