// The reward of an episode. Owns its terms; scoring of tables and answers is elsewhere.

import {
  type Episode,
  invalidInput,
  type Judge,
  type QaTask,
  type RewardBreakdown,
  type TableTask,
  WideSeekError,
} from "@wideseek/spec";
import { extractBoxed, stripThinking } from "./answer-extract.ts";
import { trainingRules } from "./evaluation.ts";
import { checkedJudge, judgeOp } from "./judge.ts";
import { type RewardOptions, rewardOptionsSchema } from "./options.ts";
import { answerExactMatch, tokenF1 } from "./qa-score.ts";
import { parseMarkdownTable } from "./table-parse.ts";
import { scoreTable } from "./table-score.ts";

export type ScoreEpisodeOptions = Partial<RewardOptions> & { judge: Judge; signal?: AbortSignal | undefined };

/** What the answer itself earned, or why it earned nothing. */
type AnswerScore = Pick<RewardBreakdown, "score" | "table" | "qa"> | { rejected: string };

/**
 * total = score + format + tool - length penalty; 0 when the lead did not answer or its answer has not the demanded form.
 * A judge that fails makes `judged` false; an abort and wrong gold data are thrown.
 */
export async function scoreEpisode(episode: Episode, options: ScoreEpisodeOptions): Promise<RewardBreakdown> {
  const { judge, signal, ...settings } = options;
  const parsed = rewardOptionsSchema.safeParse(settings);
  if (!parsed.success) throw invalidInput("reward options", parsed.error, settings);
  const constants = parsed.data;
  const lead = episode.trajectories[0];
  if (lead === undefined) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", "episode: no trajectories; the lead's must come first");
  }
  if (lead.stopReason !== "answered") return withoutReward(`lead did not answer: ${lead.stopReason}`);
  const { task } = episode;
  const answer = stripThinking(lead.answer);
  let scored: AnswerScore;
  try {
    const checked = checkedJudge(judge);
    scored =
      task.kind === "table"
        ? await scoreTableAnswer(task, answer, constants, checked, signal)
        : await scoreQaAnswer(task, answer, checked, signal);
  } catch (error) {
    if (!(error instanceof WideSeekError && error.op === judgeOp)) throw error;
    return { ...withoutReward(error.message), judged: false };
  }
  if ("rejected" in scored) return withoutReward(scored.rejected);

  const numAccesses = episode.trajectories.reduce((sum, trajectory) => sum + trajectory.numAccesses, 0);
  const longestTurn = longestTurnTokens(episode);
  const toolReward = numAccesses > 0 ? constants.toolReward : 0;
  const lengthPenalty = constants.lengthPenalty * ramp(longestTurn, constants);
  const reasons = [`score ${scored.score.toFixed(3)}`, `${numAccesses} accesses`, `longest turn ${longestTurn} tokens`];
  return {
    judged: true,
    ...scored,
    formatReward: constants.formatReward,
    toolReward,
    lengthPenalty,
    total: scored.score + constants.formatReward + toolReward - lengthPenalty,
    reason: reasons.join(", "),
  };
}

function withoutReward(reason: string): RewardBreakdown {
  return { judged: true, score: 0, formatReward: 0, toolReward: 0, lengthPenalty: 0, total: 0, reason };
}

async function scoreTableAnswer(
  task: TableTask,
  answer: string,
  options: RewardOptions,
  judge: Judge,
  signal: AbortSignal | undefined,
): Promise<AnswerScore> {
  const gold = parseMarkdownTable(task.answer, "last");
  if (gold === undefined || gold.rows.length === 0) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `task ${task.instanceId}: its answer has no table with rows`);
  }
  const predicted = parseMarkdownTable(answer, options.fence);
  if (predicted === undefined) return { rejected: "no table in the answer" };
  if (predicted.rows.length === 0) return { rejected: "the table in the answer has no rows" };
  const required = task.requiredColumns.length > 0 ? task.requiredColumns : gold.columns;
  const rules = trainingRules(required, task.uniqueColumns);
  const { score, rejected } = await scoreTable(predicted, gold, rules, judge, signal);
  return rejected === undefined ? { score: score.itemF1, table: score } : { rejected };
}

async function scoreQaAnswer(
  task: QaTask,
  answer: string,
  judge: Judge,
  signal: AbortSignal | undefined,
): Promise<AnswerScore> {
  const boxed = extractBoxed(answer);
  if (boxed === undefined) return { rejected: "no \\boxed{} in the answer" };
  const score = await judge.gradeAnswer(task.question, task.answers, boxed, signal);
  return { score, qa: { exactMatch: answerExactMatch(boxed, task.answers), tokenF1: tokenF1(boxed, task.answers) } };
}

/** Tokens of the longest turn of any agent. A turn sampled by several policy versions is still one turn. */
function longestTurnTokens(episode: Episode): number {
  let longest = 0;
  for (const { segments } of episode.trajectories) {
    let turn = 0;
    for (const segment of segments) {
      turn = segment.kind === "sampled" ? turn + segment.tokenIds.length : 0;
      longest = Math.max(longest, turn);
    }
  }
  return longest;
}

/** 0 up to the start, 1 from the end on, linear between. */
function ramp(numTokens: number, { lengthPenaltyStart: start, lengthPenaltyEnd: end }: RewardOptions): number {
  if (numTokens <= start) return 0;
  return end <= start ? 1 : Math.min(1, (numTokens - start) / (end - start));
}
