// The reward of an episode. Owns its terms; scoring of tables and answers is elsewhere.

import {
  type Episode,
  invalidInput,
  type Judge,
  longestTurnTokens,
  type QaTask,
  type RewardBreakdown,
  type TableTask,
  WideSeekError,
} from "@wideseek/spec";
import { extractBoxed, stripThinking } from "./answer-extract.ts";
import { type TableRules, trainingRules, wideSearchRules } from "./evaluation.ts";
import { checkedJudge, judgeOp } from "./judge.ts";
import { type RewardOptions, rewardOptionsSchema } from "./options.ts";
import { answerExactMatch, tokenF1 } from "./qa-score.ts";
import { normalizeColumnName, type Table } from "./table.ts";
import { parseCsvTable, parseMarkdownTable } from "./table-parse.ts";
import { scoreTable, type TableOutcome } from "./table-score.ts";

export type ScoreEpisodeOptions = Partial<RewardOptions> & {
  judge: Judge;
  /**
   * How columns of a table are scored: all by meaning, as training does (default), or as the task's own `evaluation`
   * states, as benchmarks do; a task without one is scored by meaning.
   */
  columnRules?: "meaning" | "task" | undefined;
  /** Gets what was compared with what, for reports; not called when there was no table to compare. */
  onTable?: ((outcome: TableOutcome) => void) | undefined;
  signal?: AbortSignal | undefined;
};
type CallOptions = Pick<ScoreEpisodeOptions, "columnRules" | "onTable" | "signal"> & { fence: RewardOptions["fence"] };

/** What the answer itself earned, or why it earned nothing. */
type AnswerScore = Pick<RewardBreakdown, "score" | "table" | "qa"> | { rejected: string };

/**
 * total = score + format + tool - length penalty; 0 when the lead did not answer or its answer has not the demanded form.
 * A judge that fails makes `judged` false and leaves what needs none, `qa`; an abort and wrong gold data are thrown.
 */
export async function scoreEpisode(episode: Episode, options: ScoreEpisodeOptions): Promise<RewardBreakdown> {
  const { judge, signal, columnRules, onTable, ...settings } = options;
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
        ? await scoreTableAnswer(task, answer, checked, { fence: constants.fence, columnRules, onTable, signal })
        : await scoreQaAnswer(task, answer, checked, signal);
  } catch (error) {
    if (!(error instanceof WideSeekError && error.op === judgeOp)) throw error;
    // What needs no judge is known all the same.
    const qa = task.kind === "qa" ? qaScores(task, answer) : undefined;
    return { ...withoutReward(error.message), judged: false, ...(qa !== undefined && { qa }) };
  }
  if ("rejected" in scored) return withoutReward(scored.rejected);

  const numAccesses = episode.trajectories.reduce((sum, trajectory) => sum + trajectory.numAccesses, 0);
  const longestTurn = Math.max(...episode.trajectories.map(longestTurnTokens));
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
  judge: Judge,
  { fence, columnRules, onTable, signal }: CallOptions,
): Promise<AnswerScore> {
  const { gold, rules } = tableGold(task, columnRules ?? "meaning");
  const predicted = parseMarkdownTable(answer, fence);
  if (predicted === undefined) return { rejected: "no table in the answer" };
  if (predicted.rows.length === 0) return { rejected: "the table in the answer has no rows" };
  const outcome = await scoreTable(predicted, gold, rules, judge, signal);
  onTable?.(outcome);
  const { score, rejected } = outcome;
  return rejected === undefined ? { score: score.itemF1, table: score } : { rejected };
}

/**
 * Gold table and rules of a task.
 * @throws WS_INVALID_ARGUMENT naming the task when its gold has no rows, lacks a column, or its `evaluation` asks for what
 *   does not exist
 */
function tableGold(task: TableTask, columnRules: "meaning" | "task"): { gold: Table; rules: TableRules } {
  const gold = task.answerFormat === "csv" ? parseCsvTable(task.answer) : parseMarkdownTable(task.answer, "last");
  if (gold === undefined || gold.rows.length === 0) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `task ${task.instanceId}: answer: no table with rows`);
  }
  if (columnRules === "task" && task.evaluation !== undefined) return { gold, rules: wideSearchRules(task.evaluation) };
  const required = task.requiredColumns.length > 0 ? task.requiredColumns : gold.columns;
  return { gold, rules: trainingRules(required, task.uniqueColumns) };
}

/**
 * Finds before a run what would spoil it at the end: gold tables without rows or columns, metrics that do not exist.
 * `where` names the task in errors, e.g. "file:line".
 * @throws WS_INVALID_ARGUMENT, WS_CORRUPT_FILE naming `where`, the field and the columns as they are written
 */
export function checkTableTask(
  task: TableTask,
  where: string = `task ${task.instanceId}`,
  columnRules: "meaning" | "task" = "task",
): void {
  try {
    const { gold, rules } = tableGold(task, columnRules);
    const have = new Set(gold.columns.map(normalizeColumnName));
    const written = [...task.requiredColumns, ...task.uniqueColumns];
    const missing = new Set(rules.requiredColumns.filter((column) => !have.has(column)));
    if (missing.size === 0) return;
    const names = [...missing].map((column) => written.find((name) => normalizeColumnName(name) === column) ?? column);
    const message = `answer: the table has no column ${names.join(", ")}; it has ${gold.columns.join(", ")}`;
    throw new WideSeekError("WS_INVALID_ARGUMENT", message, { details: { missing: names, columns: gold.columns } });
  } catch (error) {
    if (!(error instanceof WideSeekError)) throw error;
    const message = error.message.replace(`task ${task.instanceId}: `, "");
    throw new WideSeekError(error.code, `${where}: ${message}`, { details: error.details, cause: error });
  }
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
  return { score, qa: qaScores(task, answer) };
}

function qaScores({ answers }: QaTask, answer: string): RewardBreakdown["qa"] {
  const boxed = extractBoxed(answer);
  if (boxed === undefined) return undefined;
  return { exactMatch: answerExactMatch(boxed, answers), tokenF1: tokenF1(boxed, answers) };
}

/** 0 up to the start, 1 from the end on, linear between. */
function ramp(numTokens: number, { lengthPenaltyStart: start, lengthPenaltyEnd: end }: RewardOptions): number {
  if (numTokens <= start) return 0;
  return end <= start ? 1 : Math.min(1, (numTokens - start) / (end - start));
}
