// How far a judge of a config agrees with the rule judge, over answers that were scored before or over scorer cases. Owns
// where the answers come from; counting is the rewards package's.
import { createReadStream, existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { loadConfig, type RunConfig } from "@wideseek/config";
import { parseEpisodeResult } from "@wideseek/eval";
import {
  AgreementJudge,
  type DecisionKind,
  type Disagreement,
  evaluateWideSearch,
  type KindAgreement,
  parseTableCase,
  RuleJudge,
  scoreEpisode,
} from "@wideseek/rewards";
import {
  atBoundary,
  type ChatUsage,
  type Episode,
  errorMessage,
  type Judge,
  type Task,
  WideSeekError,
} from "@wideseek/spec";
import { mapConcurrent, Progress, type ProgressStream } from "@wideseek/train";
import { RunModels } from "./chat-models.ts";
import { readHeldOut } from "./run-data.ts";

export interface AgreementRequest {
  /** Its `judge` is compared with the rule judge. */
  config: RunConfig;
  /** An evaluation's folder: every answer in eval/*.results.jsonl, scored by its own questions. */
  run?: string | undefined;
  /** Table cases as JSONL: id, response, gold_csv, evaluation. */
  cases?: string | undefined;
  /** Answers that are scored at once. */
  concurrency: number;
  maxExamples: number;
  progress: ProgressStream;
  signal?: AbortSignal | undefined;
}

export interface AgreementReport {
  judge: string;
  numAnswers: number;
  /** Cases whose gold table or evaluation is broken. */
  numLeftOut: number;
  decisions: Record<DecisionKind, KindAgreement>;
  /** Mean score of the answers that both judges scored; each judge decides by itself here. */
  scores: { numBoth: number; rule: number | null; judge: number | null; meanDifference: number | null };
  /** Answers that the judge could not score. */
  numUnjudged: number;
  examples: Disagreement[];
  errors: string[];
  /** What the judge's model was asked for all this. */
  usage: ChatUsage | null;
}

/** Scores one answer with a judge; "unjudged" where the judge could not, "broken" where nobody could. */
type Score = (judge: Judge, signal: AbortSignal) => Promise<number | "unjudged" | "broken">;

/** @throws WS_INVALID_ARGUMENT without a judging model or without answers, WS_IO, WS_CORRUPT_FILE naming the line */
export async function judgeAgreement(request: AgreementRequest): Promise<AgreementReport> {
  const { config, run, cases, concurrency, maxExamples, progress, signal } = request;
  if (config.judge.kind === "rule") {
    throw invalid('judge.kind is "rule", which would be compared with itself; set judge.kind to api or local');
  }
  if ((run === undefined) === (cases === undefined)) throw invalid("give either a run folder or a file of cases");
  const answers = run === undefined ? await answersOfCases(cases as string) : await answersOfRun(run);
  if (answers.length === 0) throw invalid(`${run ?? cases}: no answers to judge`);
  await using models = await RunModels.open({ judge: config.judge, summary: { kind: "none" } });
  await models.check(signal);
  const rule = new RuleJudge();
  const both = new AgreementJudge({ first: rule, second: models.judge, maxExamples });
  const bar = new Progress(progress, "judge-agreement", answers.length);
  let numDone = 0;
  const scored = await mapConcurrent(
    answers,
    concurrency,
    async (score, abort) => {
      const byRule = await score(both, abort);
      const byModel = await score(models.judge, abort);
      numDone += 1;
      bar.update(numDone, "");
      return { byRule, byModel };
    },
    signal,
  );
  const pairs = scored.flatMap(({ byRule, byModel }) =>
    typeof byRule === "number" && typeof byModel === "number" ? [{ byRule, byModel }] : [],
  );
  const numLeftOut = scored.filter(({ byRule }) => byRule === "broken").length;
  const mean = (values: readonly number[]): number | null =>
    values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    judge: models.judge.name,
    numAnswers: answers.length - numLeftOut,
    numLeftOut,
    decisions: both.result(),
    scores: {
      numBoth: pairs.length,
      rule: mean(pairs.map(({ byRule }) => byRule)),
      judge: mean(pairs.map(({ byModel }) => byModel)),
      meanDifference: mean(pairs.map(({ byRule, byModel }) => Math.abs(byRule - byModel))),
    },
    numUnjudged: scored.filter(({ byModel }) => byModel === "unjudged").length,
    examples: both.examples(),
    errors: both.errors,
    usage: models.models.get("judge")?.usage ?? null,
  };
}

async function answersOfRun(directory: string): Promise<Score[]> {
  const file = path.join(directory, "config.yaml");
  if (!existsSync(file)) throw invalid(`${directory}: no run there, ${file} is missing`);
  const config = await loadConfig({ file });
  const tasks = new Map((await readHeldOut(config.data)).tasks.map((task) => [task.instanceId, task]));
  const folder = path.join(directory, "eval");
  const names = existsSync(folder) ? (await readdir(folder)).filter((name) => name.endsWith(".results.jsonl")) : [];
  const answers: Score[] = [];
  for (const name of names.sort()) {
    for await (const { value, where, index } of jsonLines(path.join(folder, name))) {
      // The first line names the evaluation.
      if (index === 0) continue;
      const { instanceId, answer, agents } = parseEpisodeResult(value, where);
      const task = tasks.get(instanceId);
      if (task === undefined)
        throw invalid(`${where}: question ${instanceId} is not among the run's held-out questions`);
      if (agents[0]?.stopReason !== "answered") continue;
      answers.push(scoreOfAnswer(task, answer, config.rewards));
    }
  }
  return answers;
}

function scoreOfAnswer(task: Task, answer: string, rewards: RunConfig["rewards"]): Score {
  return async (judge, signal) => {
    const reward = await scoreEpisode(answeredEpisode(task, answer), {
      ...rewards,
      judge,
      signal,
      columnRules: "task",
    });
    return reward.judged ? reward.score : "unjudged";
  };
}

/** Nothing but an answer: what a score depends on. */
function answeredEpisode(task: Task, answer: string): Episode {
  const counts = { numTurns: 1, numSubagentCalls: 0, numSearches: 0, numAccesses: 0, numMalformedCalls: 0 };
  return {
    task,
    sample: 0,
    seed: 0n,
    workflow: "sa",
    seconds: 0,
    trajectories: [
      {
        agentId: "single",
        role: "single",
        prompt: "",
        segments: [],
        stopReason: "answered",
        answer,
        errors: [],
        ...counts,
      },
    ],
  };
}

async function answersOfCases(file: string): Promise<Score[]> {
  const answers: Score[] = [];
  for await (const { value, where } of jsonLines(file)) {
    const found = parseTableCase(value, where);
    // Cases of single functions need no judge.
    if (found === undefined) continue;
    const { response, gold_csv, evaluation } = found;
    answers.push(async (judge, signal) => {
      try {
        return (await evaluateWideSearch(response, gold_csv, evaluation, judge, { fence: "first", signal })).itemF1;
      } catch (error) {
        if (!(error instanceof WideSeekError)) throw error;
        if (error.op === "judge") return "unjudged";
        if (error.code === "WS_INVALID_ARGUMENT" || error.code === "WS_CORRUPT_FILE") return "broken";
        throw error;
      }
    });
  }
  return answers;
}

async function* jsonLines(file: string): AsyncGenerator<{ value: unknown; where: string; index: number }> {
  await atBoundary("WS_IO", "judgeAgreement", async () => {
    if (!existsSync(file)) throw new WideSeekError("WS_IO", `${file}: no such file`, { op: "judgeAgreement" });
  });
  let index = 0;
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
    const where = `${file}:${index + 1}`;
    if (line.trim() !== "") yield { value: parseLine(line, where), where, index };
    index += 1;
  }
}

function parseLine(line: string, where: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    const message = `${where}: not JSON: ${errorMessage(error)}`;
    throw new WideSeekError("WS_CORRUPT_FILE", message, { op: "judgeAgreement", cause: error });
  }
}

function invalid(message: string): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", `judge-agreement: ${message}`, { op: "judgeAgreement" });
}
