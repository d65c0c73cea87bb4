// The lead's tool create_sub_agents: reads the calls of a turn, starts the subagents together, reports in call order.
// Owns the width of the team; how a subagent runs is the caller's business.
import type { AgentState, Language, ToolCall } from "@wideseek/spec";
import { z } from "zod";
import type { AgentOutcome, CallResult } from "./agent-loop.ts";
import { PauseRequest } from "./episode-control.ts";
import type { Limits } from "./limits.ts";
import type { AgentTexts } from "./prompts.ts";

const callSchema = z.object({ sub_agents: z.array(z.unknown()).min(1) });
const subtaskSchema = z.object({ prompt: z.string().trim().min(1) });
// An error is only useful in the language the model is working in.
const locales = {
  en: { error: z.locales.en().localeError },
  zh: { error: z.locales.zhCN().localeError },
} as const satisfies Record<Language, object>;

export const leadToolName: string = "create_sub_agents";

/** Parts of a call's answer: subtasks with their (coming) reports, then what was wrong or left out. */
interface Reading {
  subtasks: { heading: string; report: Promise<string> | string }[];
  errors: string[];
  notes: string[];
  numSubagentCalls: number;
}

export class Delegation {
  readonly #limits: Limits;
  readonly #texts: AgentTexts;
  readonly #language: Language;
  readonly #runSubagent: (agentId: string, subtask: string, resume: AgentState | undefined) => Promise<AgentOutcome>;
  readonly #agents: AgentState[];
  #numStarted: number;

  /** `before`: the subagents of a paused episode, of which the lead's whole turns had started `numStarted`. */
  constructor(
    limits: Limits,
    texts: AgentTexts,
    language: Language,
    runSubagent: (agentId: string, subtask: string, resume: AgentState | undefined) => Promise<AgentOutcome>,
    before: readonly AgentState[] = [],
    numStarted = 0,
  ) {
    this.#agents = [...before];
    this.#numStarted = numStarted;
    this.#limits = limits;
    this.#texts = texts;
    this.#language = language;
    this.#runSubagent = runSubagent;
  }

  /** All subagents so far, in order of creation. */
  get agents(): readonly AgentState[] {
    return this.#agents;
  }

  /**
   * Rejects only when a subagent does, and then not before all of them have ended; with a PauseRequest when one of them
   * was paused.
   */
  async runCalls(calls: readonly ToolCall[]): Promise<CallResult[]> {
    let numSubtasks = 0;
    // Nothing here waits: all subagents of the turn are started before any of them can end.
    const readings = calls.map((call) => {
      const reading = this.#start(call, numSubtasks + 1);
      numSubtasks += reading.subtasks.length;
      return reading;
    });
    const reports = await Promise.allSettled(
      readings.flatMap((reading) => reading.subtasks.map((subtask) => subtask.report)),
    );
    const failed = reports.find((report) => report.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    if (this.#agents.some(({ ended }) => !ended)) throw new PauseRequest("subagents are paused");
    return Promise.all(readings.map((reading) => this.#result(reading)));
  }

  #start(call: ToolCall, firstNumber: number): Reading {
    const texts = this.#texts;
    const reading: Reading = { subtasks: [], errors: [], notes: [], numSubagentCalls: 0 };
    if (call.name !== leadToolName) return { ...reading, errors: [texts.noSuchTool(call.name)] };

    const locale = locales[this.#language];
    const example = texts.expectedForm(`{"name":"${leadToolName}","arguments":{"sub_agents":[{"prompt":"..."}]}}`);
    const items = callSchema.safeParse(call.arguments, locale);
    if (!items.success) return { ...reading, errors: [issueLine("", items.error), example] };

    const { maxSubagentsPerCall, maxSubagents } = this.#limits;
    for (const [index, item] of items.data.sub_agents.slice(0, maxSubagentsPerCall).entries()) {
      const subtask = subtaskSchema.safeParse(item, locale);
      if (!subtask.success) {
        reading.errors.push(issueLine(`sub_agents[${index}]`, subtask.error));
        continue;
      }
      const { prompt } = subtask.data;
      const heading = `${texts.subtask(firstNumber + reading.subtasks.length)}\n${prompt}\n${texts.result}`;
      if (this.#numStarted >= maxSubagents) {
        reading.subtasks.push({ heading, report: texts.notRun(maxSubagents) });
        continue;
      }
      this.#numStarted += 1;
      reading.numSubagentCalls += 1;
      reading.subtasks.push({ heading, report: this.#report(this.#numStarted, prompt) });
    }
    if (reading.errors.length > 0) reading.errors.push(example);
    const numDropped = items.data.sub_agents.length - maxSubagentsPerCall;
    if (numDropped > 0) reading.notes.push(texts.droppedSubtasks(numDropped, maxSubagentsPerCall));
    return reading;
  }

  async #report(number: number, subtask: string): Promise<string> {
    const outcome = await this.#runSubagent(String(number), subtask, this.#agents[number - 1]);
    const { trajectory, findings } = outcome;
    this.#agents[number - 1] = agentState(outcome);
    if (trajectory.stopReason !== "answered") return this.#texts.failedReport(trajectory.stopReason, findings);
    return trajectory.answer === "" ? this.#texts.emptyReport : trajectory.answer;
  }

  async #result({ subtasks, errors, notes, numSubagentCalls }: Reading): Promise<CallResult> {
    const sections = await Promise.all(subtasks.map(async ({ heading, report }) => `${heading}\n${await report}`));
    if (errors.length > 0) sections.push([this.#texts.callError, ...errors].join("\n"));
    return {
      text: [...sections, ...notes].join("\n\n"),
      malformed: errors.length > 0,
      numSubagentCalls,
      numSearches: 0,
      numAccesses: 0,
    };
  }
}

/** Of an agent that has ended or was paused. */
export function agentState({ trajectory, findings, paused }: AgentOutcome): AgentState {
  const ended = { ended: true, lastTurn: false, cutOff: false };
  return { trajectory, findings, ...(paused ?? ended) };
}

function issueLine(where: string, error: z.ZodError): string {
  const issue = error.issues[0];
  const path = [where, ...(issue?.path ?? []).map(String)].filter((part) => part !== "").join(".");
  return path === "" ? `${issue?.message}` : `${path}: ${issue?.message}`;
}
