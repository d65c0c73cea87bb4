// The loop of an agent whose model is spoken to in messages: an API, or other weights of ours behind a ChatModel. Same
// prompts, limits and tools as the loop over token ids; what it records can be scored and read, not trained on.
import type {
  ChatMessage,
  ChatModel,
  ChatReply,
  SamplingSettings,
  StopReason,
  TextSegment,
  Trajectory,
} from "@wideseek/spec";
import { beginTurn, countCalls, errorMessage, WideSeekError } from "@wideseek/spec";
import type { Agent, AgentOutcome, CallResult } from "./agent-loop.ts";
import type { EpisodeControl } from "./episode-control.ts";
import {
  type AgentBudget,
  agentBudget,
  type Limits,
  lastResponseTokens,
  newTokensOfTurn,
  responseTokens,
} from "./limits.ts";
import type { AgentTexts } from "./prompts.ts";
import { turnSeed } from "./seeds.ts";
import { cutSection } from "./tool-response.ts";

/** As `AgentEnvironment`, for a model in messages. */
export interface MessageEnvironment {
  model: ChatModel;
  limits: Limits;
  sampling: Pick<SamplingSettings, "temperature" | "topP">;
  texts: AgentTexts;
  episodeSeed: bigint;
  control: EpisodeControl;
}

/** Characters of a token where nothing better is known; hardly any text has fewer. */
const fewestCharactersPerToken = 1;
const mostCharactersPerToken = 4;

/** Runs one agent to its end. Whatever the model writes is data. @throws on abort or a broken engine only */
export async function runMessageAgent(agent: Agent, environment: MessageEnvironment): Promise<AgentOutcome> {
  const { model, limits, sampling, texts, episodeSeed, control } = environment;
  const budget = agentBudget(limits, agent.role, Number.POSITIVE_INFINITY);
  const transcript: TextSegment[] = [];
  const trajectory: Trajectory = {
    agentId: agent.agentId,
    role: agent.role,
    prompt: agent.prompt,
    segments: [],
    transcript,
    stopReason: "answered",
    numTurns: 0,
    numSubagentCalls: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer: "",
    errors: [],
  };
  let findings = "";
  const stop = (stopReason: StopReason, error?: string): AgentOutcome => {
    trajectory.stopReason = stopReason;
    if (error !== undefined) trajectory.errors.push(error);
    return { trajectory, findings };
  };

  const messages: ChatMessage[] = [...agent.messages];
  let news: readonly ChatMessage[] = messages.slice();
  let numTokens = estimated(messages, mostCharactersPerToken);
  let lastTurn = budget.maxTurns === 1;
  for (;;) {
    const turn = trajectory.numTurns + 1;
    if (newTokensOfTurn(limits, budget, numTokens) < 1) {
      return stop("context", `turn ${turn}: ${numTokens} of ${budget.contextTokens} context tokens are used`);
    }
    transcript.push({ kind: "given", text: shown(news) });
    let reply: ChatReply;
    try {
      control.signal.throwIfAborted();
      reply = await model.chat({
        messages: messages.slice(),
        tools: agent.definitions,
        // What a server allows beyond that depends on its own count of the prompt; the budget is checked after.
        maxTokens: limits.maxNewTokensPerTurn,
        temperature: sampling.temperature,
        topP: sampling.topP,
        seed: turnSeed(episodeSeed, agent.agentId, turn),
        signal: control.signal,
      });
    } catch (error) {
      const isFull = error instanceof WideSeekError && error.details.reason === "context";
      return stop(isFull ? "context" : control.stopReason(error), `turn ${turn}: chat: ${errorMessage(error)}`);
    }
    const charactersPerToken = measured(messages, reply.numPromptTokens);
    messages.push({ role: "assistant", content: reply.text, toolCalls: reply.toolCalls });
    numTokens =
      reply.numPromptTokens > 0
        ? reply.numPromptTokens + reply.numCompletionTokens
        : estimated(messages, charactersPerToken);
    const { numPromptTokens, numCompletionTokens } = reply;
    transcript.push({ kind: "sampled", text: written(reply), numTokens: numCompletionTokens, numPromptTokens });
    trajectory.numTurns = turn;
    const cutOff = reply.finishReason === "length";
    beginTurn(trajectory, { numPromptTokens, numTokens: numCompletionTokens, cutOff });

    const { toolCalls: calls, text } = reply;
    const errors = [...reply.callErrors];
    trajectory.answer = text;
    if (text !== "") findings = text;
    trajectory.numMalformedCalls += errors.length;
    trajectory.errors.push(...errors.map((error) => `turn ${turn}: ${error}`));
    if (cutOff && numTokens >= budget.contextTokens) {
      return stop("context", `turn ${turn}: the turn filled the context of ${budget.contextTokens} tokens`);
    }
    if (!cutOff && calls.length === 0 && errors.length === 0) return stop("answered");
    if (lastTurn) return stop("turns", `turn ${turn}: no final answer on the last turn`);

    let results: CallResult[];
    try {
      results = await agent.runCalls(calls, false);
    } catch (error) {
      return stop(control.stopReason(error), `turn ${turn}: tools: ${errorMessage(error)}`);
    }
    for (const [index, result] of results.entries()) {
      countCalls(trajectory, result);
      trajectory.errors.push(...(result.failures ?? []).map((failure) => `turn ${turn}: ${failure}`));
      if (result.malformed) {
        trajectory.numMalformedCalls += 1;
        trajectory.errors.push(`turn ${turn}: wrong call of ${JSON.stringify(calls[index]?.name.slice(0, 100))}`);
      }
    }
    if (cutOff) errors.push(texts.turnCutOff(numCompletionTokens));
    const response = fitted({
      texts,
      budget,
      numTokens,
      charactersPerToken,
      nextTurn: turn + 1,
      sections: results.map((result) => result.text),
      errors: errors.length === 0 ? "" : [texts.callError, ...errors].join("\n"),
    });
    if (response.wasCut) trajectory.errors.push(`turn ${turn}: tool output was cut to fit into the context`);
    lastTurn = response.lastTurn;
    news = answers(response, calls);
    messages.push(...news);
    numTokens += estimated(news, charactersPerToken);
  }
}

interface Response {
  /** One a call. */
  sections: readonly string[];
  /** What is said after the results: errors, and the turn that comes. */
  notice: string;
  lastTurn: boolean;
  wasCut: boolean;
}

/** As the loop over token ids does: when the results do not fit, the coming turn is the last and they are cut. */
function fitted(parts: {
  texts: AgentTexts;
  budget: AgentBudget;
  numTokens: number;
  charactersPerToken: number;
  nextTurn: number;
  sections: readonly string[];
  errors: string;
}): Response {
  const { texts, budget, numTokens, charactersPerToken, nextTurn, sections, errors } = parts;
  const join = (...pieces: string[]): string => pieces.filter((piece) => piece !== "").join("\n\n");
  const size = (pieces: readonly string[]): number => {
    return pieces.reduce((sum, piece) => sum + piece.length, 0) / charactersPerToken;
  };
  const notice = join(errors, texts.nextTurn(nextTurn, budget.maxTurns));
  if (nextTurn < budget.maxTurns && size([...sections, notice]) <= responseTokens(budget, numTokens)) {
    return { sections, notice, lastTurn: false, wasCut: false };
  }
  const last = join(errors, texts.answerNow);
  const room = lastResponseTokens(budget, numTokens) - size([last]);
  if (size(sections) <= room) return { sections, notice: last, lastTurn: true, wasCut: false };
  let cap = Math.max(...sections.map((section) => section.length));
  const cut = (): string[] => sections.map((section) => cutSection(section, cap, texts));
  while (cap > 0 && size(cut()) > room) cap = Math.floor(cap * 0.9);
  return { sections: cut(), notice: last, lastTurn: true, wasCut: true };
}

/** Results answer calls; without a call, what is to be said comes from the user. */
function answers({ sections, notice }: Response, calls: ChatReply["toolCalls"]): ChatMessage[] {
  if (calls.length === 0) return [{ role: "user", content: notice }];
  return calls.map(({ id }, index): ChatMessage => {
    const section = sections[index] ?? "";
    const isLast = index === calls.length - 1;
    return { role: "tool", toolCallId: id, content: isLast && notice !== "" ? `${section}\n\n${notice}` : section };
  });
}

function numCharacters(messages: readonly ChatMessage[]): number {
  return messages.reduce((sum, { content }) => sum + content.length, 0);
}

function estimated(messages: readonly ChatMessage[], charactersPerToken: number): number {
  return Math.ceil(numCharacters(messages) / charactersPerToken);
}

/** Of the texts in this conversation; tool definitions count as tokens too, so this is rather too few than too many. */
function measured(messages: readonly ChatMessage[], numPromptTokens: number): number {
  if (numPromptTokens === 0) return mostCharactersPerToken;
  const ratio = numCharacters(messages) / numPromptTokens;
  return Math.min(mostCharactersPerToken, Math.max(fewestCharactersPerToken, ratio));
}

function shown(messages: readonly ChatMessage[]): string {
  return messages
    .map(({ role, content }) =>
      role === "tool" ? `<tool_response>\n${content}\n</tool_response>` : `[${role}]\n${content}`,
    )
    .join("\n\n");
}

function written({ thinking, text, toolCalls }: ChatReply): string {
  const thought = thinking === "" ? [] : [`<think>\n${thinking}\n</think>`];
  const calls = toolCalls.map(({ name, arguments: value }) => {
    return `<tool_call>\n${JSON.stringify({ name, arguments: value })}\n</tool_call>`;
  });
  return [...thought, ...(text === "" ? [] : [text]), ...calls].join("\n");
}
