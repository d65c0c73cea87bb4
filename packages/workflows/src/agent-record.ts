// What one agent of a workflow asked and was told, as a trajectory in texts. Owns counting and how a failed call ends an
// agent; what is asked is the workflow's business.
import { type EpisodeControl, turnSeed } from "@wideseek/agents";
import {
  beginTurn,
  type ChatMessage,
  type ChatReply,
  type ChatRequest,
  type CompletionSettings,
  errorMessage,
  type Role,
  type StopReason,
  type TextSegment,
  type Trajectory,
  WideSeekError,
} from "@wideseek/spec";
import type { WorkflowModel } from "./workflow.ts";

/** An agent that cannot go on; thrown inside a workflow only. */
export class AgentStopped extends Error {
  readonly reason: Exclude<StopReason, "answered">;

  constructor(reason: Exclude<StopReason, "answered">, message: string) {
    super(message);
    this.reason = reason;
  }
}

type Settings = Omit<CompletionSettings, "signal" | "seed">;

export class AgentRecord {
  readonly trajectory: Trajectory;
  readonly #transcript: TextSegment[] = [];
  readonly #seed: bigint;
  readonly #control: EpisodeControl;

  constructor(
    { agentId, role, prompt }: { agentId: string; role: Role; prompt: string },
    { seed, control }: { seed: bigint; control: EpisodeControl },
  ) {
    this.#seed = seed;
    this.#control = control;
    this.trajectory = {
      agentId,
      role,
      prompt,
      segments: [],
      transcript: this.#transcript,
      stopReason: "answered",
      numTurns: 0,
      numSubagentCalls: 0,
      numSearches: 0,
      numAccesses: 0,
      numMalformedCalls: 0,
      answer: "",
      errors: [],
    };
  }

  /**
   * One call in messages. `news` is what the record shows of the prompt: what the model has not seen in this record yet.
   * @throws AgentStopped; what the whole episode must end with
   */
  chat(
    { model }: WorkflowModel,
    request: Settings & Omit<ChatRequest, "signal" | "seed">,
    news: string,
  ): Promise<ChatReply> {
    return this.#call(news, (fixed) => model.chat({ ...request, ...fixed }));
  }

  /** The same with a plain text that the model continues. */
  complete({ model }: WorkflowModel, prompt: string, settings: Settings, news: string): Promise<ChatReply> {
    return this.#call(news, (fixed) => model.complete(prompt, { ...settings, ...fixed }));
  }

  /** Something that went wrong and does not end the agent. */
  note(error: string): void {
    this.trajectory.errors.push(`turn ${this.trajectory.numTurns}: ${error}`);
  }

  /** The model wrote a call or a form wrong. */
  malformed(error: string): void {
    this.trajectory.numMalformedCalls += 1;
    this.note(error);
  }

  stop({ reason, message }: AgentStopped): void {
    this.trajectory.stopReason = reason;
    this.trajectory.errors.push(message);
  }

  /** How the agent stops because of what a lookup or a call threw. @throws what the whole episode must end with */
  stopped(error: unknown, what: string): AgentStopped {
    const where = `turn ${this.trajectory.numTurns}: ${what}: ${errorMessage(error)}`;
    if (error instanceof WideSeekError && error.details.reason === "context") return new AgentStopped("context", where);
    return new AgentStopped(this.#control.stopReason(error), where);
  }

  async #call(
    news: string,
    ask: (fixed: { seed: bigint; signal: AbortSignal }) => Promise<ChatReply>,
  ): Promise<ChatReply> {
    const { trajectory } = this;
    this.#transcript.push({ kind: "given", text: news });
    const turn = trajectory.numTurns + 1;
    try {
      this.#control.signal.throwIfAborted();
      const seed = turnSeed(this.#seed, trajectory.agentId, turn);
      const reply = await ask({ seed, signal: this.#control.signal });
      trajectory.numTurns = turn;
      const { numCompletionTokens: numTokens, numPromptTokens } = reply;
      this.#transcript.push({ kind: "sampled", text: replyText(reply), numTokens, numPromptTokens });
      beginTurn(trajectory, { numPromptTokens, numTokens, cutOff: reply.finishReason === "length" });
      return reply;
    } catch (error) {
      throw this.stopped(error, "the model");
    }
  }
}

/** A reply as the model wrote it, as far as it is known. */
function replyText({ thinking, text, toolCalls }: ChatReply): string {
  const calls = toolCalls.map((call) => {
    const { name, arguments: value } = call;
    return `<tool_call>\n${JSON.stringify({ name, arguments: value })}\n</tool_call>`;
  });
  const thought = thinking === "" ? [] : [`<think>\n${thinking}\n</think>`];
  return [...thought, ...(text === "" ? [] : [text]), ...calls].join("\n");
}

/** Messages for the record. */
export function messagesText(messages: readonly ChatMessage[]): string {
  return messages.map(({ role, content }) => `[${role}]\n${content}`).join("\n\n");
}
