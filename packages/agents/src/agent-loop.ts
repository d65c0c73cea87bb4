// The one loop of lead, subagent and single agent: generate, read the calls, run them, append the results.
import type {
  AgentState,
  Policy,
  Role,
  SamplingSettings,
  StopReason,
  ToolCall,
  ToolDefinition,
  Trajectory,
} from "@wideseek/spec";
import { beginTurn, countCalls, errorMessage } from "@wideseek/spec";
import { type ChatTokenizer, type PromptMessage, parseAssistantTurn } from "@wideseek/text";
import { type EpisodeControl, PauseRequest } from "./episode-control.ts";
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
  /**
   * Runs the calls of one turn together; results in call order. Rejects only when the episode must end, and with a
   * PauseRequest when the agent must wait for what was paused. `wereAbandoned`: a pause ended these very calls before,
   * and may not do so again, or an agent with a slow tool would never go on.
   */
  runCalls(calls: readonly ToolCall[], wereAbandoned: boolean): Promise<CallResult[]>;
  /** Goes on from here. */
  resume?: AgentState | undefined;
}

export interface AgentOutcome {
  trajectory: Trajectory;
  /** The last text outside thinking and calls that the agent wrote in any turn. */
  findings: string;
  /** Where the agent stands, if it was paused before its end. */
  paused?: Omit<AgentState, "trajectory" | "findings"> | undefined;
}

/** Runs one agent to its end. Whatever the model writes is data. @throws on abort or a broken engine only */
export async function runAgent(agent: Agent, environment: AgentEnvironment): Promise<AgentOutcome> {
  const { policy, chat, limits, sampling, texts, episodeSeed, control } = environment;
  const budget = agentBudget(limits, agent.role, policy.maxContextTokens);
  const before = agent.resume;
  const history = new TokenHistory(before?.trajectory.segments);
  const trajectory: Trajectory = {
    agentId: agent.agentId,
    role: agent.role,
    prompt: agent.prompt,
    stopReason: "answered",
    numTurns: 0,
    numSubagentCalls: 0,
    numSearches: 0,
    numAccesses: 0,
    numMalformedCalls: 0,
    answer: "",
    ...before?.trajectory,
    segments: history.segments,
    errors: [...(before?.trajectory.errors ?? [])],
    turns: (before?.trajectory.turns ?? []).map((facts) => ({ ...facts })),
  };
  let findings = before?.findings ?? "";
  if (before?.ended) return { trajectory, findings };
  const stop = (stopReason: StopReason, error?: string): AgentOutcome => {
    trajectory.stopReason = stopReason;
    if (error !== undefined) trajectory.errors.push(error);
    return { trajectory, findings };
  };

  let lastTurn = before?.lastTurn ?? budget.maxTurns === 1;
  let cutOff = before?.cutOff ?? false;
  const pause = (): AgentOutcome => ({ trajectory, findings, paused: { ended: false, lastTurn, cutOff } });
  if (history.numTokens === 0) history.appendGiven(await chat.encodePrompt(agent.messages, agent.definitions));
  // A turn that was sampled before a pause is counted already; only its calls are to be run.
  let isCounted = history.lastTurn().length > 0;
  for (;;) {
    const turn = trajectory.numTurns + (isCounted ? 0 : 1);
    if (!isCounted) {
      if (control.pause?.aborted) return pause();
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
      cutOff = completion.finishReason === "length";
      beginTurn(trajectory, {
        numPromptTokens: history.numTokens,
        numTokens: completion.tokenIds.length,
        cutOff,
      });
      history.appendSampled(completion);
      trajectory.numTurns = turn;
    }

    const turnIds = history.lastTurn();
    const { calls, errors, text } = parseAssistantTurn(await chat.turnText(turnIds));
    if (!isCounted) {
      trajectory.answer = text;
      if (text !== "") findings = text;
      trajectory.numMalformedCalls += errors.length;
      trajectory.errors.push(...errors.map((error) => `turn ${turn}: ${error}`));
    }
    const wereAbandoned = isCounted;
    isCounted = false;
    if (cutOff && history.numTokens >= budget.contextTokens) {
      return stop("context", `turn ${turn}: the turn filled the context of ${budget.contextTokens} tokens`);
    }
    if (!cutOff && calls.length === 0 && errors.length === 0) return stop("answered");
    if (lastTurn) return stop("turns", `turn ${turn}: no final answer on the last turn`);

    if (control.pause?.aborted && !wereAbandoned) return pause();
    let results: CallResult[];
    try {
      results = await agent.runCalls(calls, wereAbandoned);
    } catch (error) {
      if (error instanceof PauseRequest) return pause();
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
    if (cutOff) errors.push(texts.turnCutOff(turnIds.length));
    const sections = results.map((result) => result.text);
    if (errors.length > 0) sections.push([texts.callError, ...errors].join("\n"));
    const response = await toolResponse({
      chat,
      texts,
      budget,
      sections,
      numTokens: history.numTokens,
      nextTurn: turn + 1,
      endedWithStop: chat.endsTurn(turnIds),
    });
    if (response === null) return stop("context", `turn ${turn}: no room for the tool response and an answer`);
    if (response.wasCut) trajectory.errors.push(`turn ${turn}: tool output was cut to fit into the context`);
    history.appendGiven(response.tokenIds);
    lastTurn = response.lastTurn;
  }
}
