// The one loop of lead, subagent and single agent: generate, read the calls, run them, append the results.
import type { Policy, Role, SamplingSettings, StopReason, ToolCall, ToolDefinition, Trajectory } from "@wideseek/spec";
import { errorMessage } from "@wideseek/spec";
import { type ChatTokenizer, type PromptMessage, parseAssistantTurn } from "@wideseek/text";
import type { EpisodeControl } from "./episode-control.ts";
import { agentBudget, type Limits, newTokensOfTurn } from "./limits.ts";
import type { AgentTexts } from "./prompts.ts";
import { turnSeed } from "./seeds.ts";
import { TokenHistory } from "./token-history.ts";
import { toolResponse } from "./tool-response.ts";

/** What agents need of the tokenizer. */
export type AgentChat = Pick<
  ChatTokenizer,
  "encodePrompt" | "encodeToolResponse" | "turnText" | "endsTurn" | "stopTokenIds"
>;

/** What all agents of an episode share. */
export interface AgentEnvironment {
  policy: Policy;
  chat: AgentChat;
  limits: Limits;
  sampling: SamplingSettings;
  texts: AgentTexts;
  episodeSeed: bigint;
  control: EpisodeControl;
}

/** What became of one call. */
export interface CallResult {
  text: string;
  /** The model wrote the call wrong, wholly or in part. */
  malformed: boolean;
  numSubagentCalls: number;
  numSearches: number;
  numAccesses: number;
  /** Why its tool failed, one line each. */
  failures?: readonly string[] | undefined;
}

export interface Agent {
  agentId: string;
  role: Role;
  /** The subtask for a subagent, the question otherwise. */
  prompt: string;
  messages: readonly PromptMessage[];
  definitions: readonly ToolDefinition[];
  /** Runs the calls of one turn together; results in call order. Rejects only when the episode must end. */
  runCalls(calls: readonly ToolCall[]): Promise<CallResult[]>;
}

export interface AgentOutcome {
  trajectory: Trajectory;
  /** The last text outside thinking and calls that the agent wrote in any turn. */
  findings: string;
}

/** Runs one agent to its end. Whatever the model writes is data. @throws on abort or a broken engine only */
export async function runAgent(agent: Agent, environment: AgentEnvironment): Promise<AgentOutcome> {
  const { policy, chat, limits, sampling, texts, episodeSeed, control } = environment;
  const budget = agentBudget(limits, agent.role, policy.maxContextTokens);
  const history = new TokenHistory();
  const trajectory: Trajectory = {
    agentId: agent.agentId,
    role: agent.role,
    prompt: agent.prompt,
    segments: history.segments,
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

  history.appendGiven(await chat.encodePrompt(agent.messages, agent.definitions));
  let lastTurn = budget.maxTurns === 1;
  for (;;) {
    const turn = trajectory.numTurns + 1;
    const maxNewTokens = newTokensOfTurn(limits, budget, history.numTokens);
    if (maxNewTokens < 1) {
      return stop("context", `turn ${turn}: ${history.numTokens} of ${budget.contextTokens} context tokens are used`);
    }

    let completion: Awaited<ReturnType<Policy["generate"]>>;
    try {
      control.signal.throwIfAborted();
      completion = await policy.generate({
        promptIds: history.tokenIds(),
        maxNewTokens,
        seed: turnSeed(episodeSeed, agent.agentId, turn),
        sampling,
        stopTokenIds: chat.stopTokenIds,
        signal: control.signal,
      });
    } catch (error) {
      return stop(control.stopReason(error), `turn ${turn}: generate: ${errorMessage(error)}`);
    }
    history.appendSampled(completion);
    trajectory.numTurns = turn;

    const { calls, errors, text } = parseAssistantTurn(await chat.turnText(completion.tokenIds));
    trajectory.answer = text;
    if (text !== "") findings = text;
    trajectory.numMalformedCalls += errors.length;
    trajectory.errors.push(...errors.map((error) => `turn ${turn}: ${error}`));
    const cutOff = completion.finishReason === "length";
    if (cutOff && history.numTokens >= budget.contextTokens) {
      return stop("context", `turn ${turn}: the turn filled the context of ${budget.contextTokens} tokens`);
    }
    if (!cutOff && calls.length === 0 && errors.length === 0) return stop("answered");
    if (lastTurn) return stop("turns", `turn ${turn}: no final answer on the last turn`);

    let results: CallResult[];
    try {
      results = await agent.runCalls(calls);
    } catch (error) {
      return stop(control.stopReason(error), `turn ${turn}: tools: ${errorMessage(error)}`);
    }
    for (const [index, result] of results.entries()) {
      trajectory.numSubagentCalls += result.numSubagentCalls;
      trajectory.numSearches += result.numSearches;
      trajectory.numAccesses += result.numAccesses;
      trajectory.errors.push(...(result.failures ?? []).map((failure) => `turn ${turn}: ${failure}`));
      if (result.malformed) {
        trajectory.numMalformedCalls += 1;
        trajectory.errors.push(`turn ${turn}: wrong call of ${JSON.stringify(calls[index]?.name.slice(0, 100))}`);
      }
    }
    if (cutOff) errors.push(texts.turnCutOff(completion.tokenIds.length));
    const sections = results.map((result) => result.text);
    if (errors.length > 0) sections.push([texts.callError, ...errors].join("\n"));
    const response = await toolResponse({
      chat,
      texts,
      budget,
      sections,
      numTokens: history.numTokens,
      nextTurn: turn + 1,
      endedWithStop: chat.endsTurn(completion.tokenIds),
    });
    if (response === null) return stop("context", `turn ${turn}: no room for the tool response and an answer`);
    if (response.wasCut) trajectory.errors.push(`turn ${turn}: tool output was cut to fit into the context`);
    history.appendGiven(response.tokenIds);
    lastTurn = response.lastTurn;
  }
}
