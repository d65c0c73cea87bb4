// The result files of WideSeek-R1's own evaluation: metrics.json, allresults.json and a file for each response. Owns names
// and fields; everything is read from the log of finished episodes, so an evaluation that was resumed has all of it.
import { renameSync, writeFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import {
  atBoundary,
  errorMessage,
  makeFolder,
  type Role,
  type Task,
  type TurnFacts,
  WideSeekError,
} from "@wideseek/spec";
import { type AgentResult, type EpisodeResult, parseEpisodeResult } from "./episode-result.ts";
import type { EvaluationReport } from "./evaluate.ts";
import { LineIndex } from "./line-index.ts";
import type { AtK, Measure } from "./metrics.ts";
import { fileName } from "./official-layout.ts";
import { PublishedMetrics } from "./published-metrics.ts";
import { parseEpisodeTrace } from "./trace.ts";

export interface PublishedTurn {
  /** The whole prompt; null where what was said was not kept. */
  prompt_text: string | null;
  response_text: string | null;
  prompt_ids_length: number;
  response_ids_length: number;
  /** The model ended the turn itself. The published file has the opposite here, by mistake. */
  is_end: boolean;
  /** Reward of the whole episode; null where it was not judged. */
  reward_score: number | null;
  role: "planner" | "worker" | "single";
  /** Null for a turn without a valid call. */
  tool_call_info: { subtask: number; search: number; access: number; role: PublishedTurn["role"] } | null;
}

export interface PublishedSample {
  sample_idx: number;
  num_turns: number;
  turns: PublishedTurn[];
  origin_question: string;
  /** Rows of a table, the answer to a question, or null when there is none of the demanded form. */
  final_answer: unknown;
  final_answer_text: string;
  /** Turns of each subagent, the lead's last; null for a single agent. */
  total_turn_list: number[] | null;
  final_answer_format: number;
  /** Score of the answer; null where it was not judged: an outage is no 0. */
  llm_reward: number | null;
}

export interface PublishedFiles {
  /** Folder of the evaluation, experiment_name included. */
  directory: string;
  experimentName: string;
  report: EvaluationReport;
  tasks: readonly Task[];
  /** Question files. */
  dataPaths: readonly string[];
  /** JSONL of finished episodes. */
  resultsFile: string;
  /** JSONL of recorded episodes; what was said in the others is not in the files. */
  tracesFile: string;
  /** The final answer in a text, undefined when it has not the demanded form: rows by column, or a text. */
  readAnswer(task: Task, text: string): unknown;
  /** Gold answer of a question as the published data has it: a Markdown table, or texts. */
  goldOf(task: Task): string | readonly string[];
  now?: Date | undefined;
}

const roles: Readonly<Record<Role, PublishedTurn["role"]>> = { lead: "planner", subagent: "worker", single: "single" };
const keyOf = (instanceId: string, sample: number): string => JSON.stringify([instanceId, sample]);

/** Writes all of them, each whole and then renamed; holds one question at a time. @throws WS_IO */
export async function writePublishedFiles(files: PublishedFiles): Promise<void> {
  const { directory, experimentName, report, tasks } = files;
  const responses = join(directory, "responses");
  makeFolder(responses);
  using results = await LineIndex.open(files.resultsFile, resultKey);
  using traces = await LineIndex.open(files.tracesFile, traceKey);
  const metrics = new PublishedMetrics();
  await writeWhole(join(directory, "allresults.json"), async (write) => {
    for (const [index, task] of tasks.entries()) {
      const samples: PublishedSample[] = [];
      for (let sample = 0; sample < report.samples; sample++) {
        const key = keyOf(task.instanceId, sample);
        const result = parseEpisodeResult(results.read(key), `${files.resultsFile}: episode ${key}`);
        const published = publishedSample(files, task, result, turnTexts(traces, key, files.tracesFile));
        samples.push(published);
        const name = `${fileName(experimentName)}_${fileName(task.instanceId)}_${sample}_response.jsonl`;
        writeResponse(join(responses, name), responseOf(task, published));
      }
      metrics.add(samples, task.kind === "qa");
      const group = { index, group_size: report.samples, answer: answerOf(files, task), samples };
      await write(`${index === 0 ? "[\n  " : ",\n  "}${indented(group).replaceAll("\n", "\n  ")}`);
    }
    await write("\n]");
  });
  await writeJson(join(directory, "metrics.json"), {
    dataset_size: tasks.length,
    experiment_name: experimentName,
    timestamp: timestamp(files.now ?? new Date()),
    config: { group_size: report.samples, data_paths: files.dataPaths },
    metrics: { ...metrics.metrics(), ...tableMetrics(report) },
  });
}

function resultKey(value: unknown): string | undefined {
  const { instanceId, sample } = value as Partial<EpisodeResult>;
  return instanceId === undefined || sample === undefined ? undefined : keyOf(instanceId, sample);
}

function traceKey(value: unknown): string | undefined {
  const { task, sample } = value as { task?: { instanceId?: string }; sample?: number };
  return task?.instanceId === undefined || sample === undefined ? undefined : keyOf(task.instanceId, sample);
}

interface TurnTexts {
  prompt: string;
  response: string;
}

/** What was said in the turns of each agent; empty where the episode was not recorded. */
function turnTexts(traces: LineIndex, key: string, file: string): TurnTexts[][] {
  const value = traces.read(key);
  if (value === undefined) return [];
  return parseEpisodeTrace(value, `${file}: episode ${key}`).agents.map(({ segments }) => {
    const turns: TurnTexts[] = [];
    let history = "";
    let wasSampled = false;
    for (const { kind, text = "" } of segments) {
      const last = turns.at(-1);
      // One turn may be kept as several sampled segments, when several versions of the weights wrote it.
      if (kind === "sampled" && wasSampled && last !== undefined) last.response += text;
      else if (kind === "sampled") turns.push({ prompt: history, response: text });
      wasSampled = kind === "sampled";
      history += text;
    }
    return turns;
  });
}

function publishedSample(
  { readAnswer }: PublishedFiles,
  task: Task,
  { sample, agents, answer, reward }: EpisodeResult,
  texts: readonly TurnTexts[][],
): PublishedSample {
  const turns = agents.flatMap((agent, index) =>
    (agent.turns ?? []).map((facts, turn) => publishedTurn(agent, facts, texts[index]?.[turn], reward)),
  );
  const [first, ...subagents] = agents;
  const hasAnswered = first?.stopReason === "answered";
  const found = hasAnswered ? readAnswer(task, answer) : undefined;
  return {
    sample_idx: sample,
    num_turns: agents.reduce((sum, { numTurns }) => sum + numTurns, 0),
    turns,
    origin_question: task.question,
    final_answer: found ?? null,
    final_answer_text: answer,
    total_turn_list: first?.role === "lead" ? [...subagents.map(({ numTurns }) => numTurns), first.numTurns] : null,
    final_answer_format: found === undefined ? 0 : 1,
    llm_reward: reward.judged ? reward.score : null,
  };
}

function publishedTurn(
  { role: ours }: AgentResult,
  facts: TurnFacts,
  texts: TurnTexts | undefined,
  reward: EpisodeResult["reward"],
): PublishedTurn {
  const role = roles[ours];
  const { numSubagentCalls: subtask, numSearches: search, numAccesses: access } = facts;
  return {
    prompt_text: texts?.prompt ?? null,
    response_text: texts?.response ?? null,
    prompt_ids_length: facts.numPromptTokens,
    response_ids_length: facts.numTokens,
    is_end: !facts.cutOff,
    reward_score: reward.judged ? reward.total : null,
    role,
    tool_call_info: subtask + search + access === 0 ? null : { subtask, search, access, role },
  };
}

function responseOf({ instanceId }: Task, sample: PublishedSample): Record<string, unknown> {
  const { sample_idx, final_answer, final_answer_text, llm_reward, final_answer_format, num_turns } = sample;
  return {
    instance_id: instanceId,
    trial_idx: sample_idx,
    final_answer,
    final_answer_text,
    llm_reward,
    final_answer_format,
    num_turns,
    origin_question: sample.origin_question,
  };
}

function answerOf({ goldOf }: PublishedFiles, task: Task): Record<string, unknown> {
  const { instanceId: instance_id, language } = task;
  const common = { instance_id, language };
  if (task.kind === "qa") return { answer: goldOf(task), is_markdown: false, ...common };
  const { uniqueColumns: unique_columns, requiredColumns: required } = task;
  const columns = required.length > 0 ? { required } : {};
  return { answer: goldOf(task), unique_columns, is_markdown: true, ...common, ...columns };
}

/** Beside the published figures, which have none for tables. */
function tableMetrics({ measures }: EvaluationReport): Record<string, number> {
  const shown: readonly [string, Measure, keyof AtK][] = [
    ["item_f1_avg@k", "itemF1", "avg"],
    ["item_f1_max@k", "itemF1", "max"],
    ["row_f1_avg@k", "rowF1", "avg"],
    ["row_f1_max@k", "rowF1", "max"],
    ["success_avg@k", "success", "avg"],
    ["success_pass@k", "success", "pass"],
  ];
  return Object.fromEntries(
    shown.flatMap(([name, measure, statistic]) => {
      const value = measures[measure]?.[statistic]?.mean;
      return value === undefined || !Number.isFinite(value) ? [] : [[name, value]];
    }),
  );
}

/** As the published files have it: 20260131_235959, local time. */
function timestamp(now: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("");
  return `${date}_${[now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("")}`;
}

function indented(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** At once: at the end of an evaluation nothing else waits, and a thousand small files take a tenth of the time so. */
function writeResponse(path: string, value: unknown): void {
  try {
    writeFileSync(`${path}.tmp`, indented(value));
    renameSync(`${path}.tmp`, path);
  } catch (error) {
    throw new WideSeekError("WS_IO", `write published results: ${errorMessage(error)}`, { op: "write", cause: error });
  }
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeWhole(path, (write) => write(indented(value)));
}

async function writeWhole(
  path: string,
  work: (write: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  await atBoundary("WS_IO", "write published results", async () => {
    const file = await open(`${path}.tmp`, "w");
    try {
      await work(async (text) => await file.writeFile(text));
    } finally {
      await file.close();
    }
    await rename(`${path}.tmp`, path);
  });
}
