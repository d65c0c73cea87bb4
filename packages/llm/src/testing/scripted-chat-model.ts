// A ChatModel for tests that says what a script says. Owns no connection.
import {
  type ChatMessage,
  type ChatModel,
  type ChatReply,
  type ChatRequest,
  type CompletionSettings,
  WideSeekError,
} from "@wideseek/spec";

/** What a model is asked, by `chat` or by `complete`. */
export interface ScriptedCall {
  /** Empty for a completion. */
  messages: readonly ChatMessage[];
  /** Undefined for a chat. */
  prompt: string | undefined;
  settings: ChatRequest | CompletionSettings;
  /** From 0. */
  index: number;
}

/** A reply in full or in part, or a text alone; what it throws, the model rejects with. */
export type ChatScript = (call: ScriptedCall) => Partial<ChatReply> | string | Promise<Partial<ChatReply> | string>;

export class ScriptedChatModel implements ChatModel {
  readonly name: string;
  readonly calls: ScriptedCall[] = [];
  readonly #script: ChatScript;
  #closed = false;

  /** A list answers one call after the other and then fails. */
  constructor(script: ChatScript | readonly (Partial<ChatReply> | string)[], name = "scripted") {
    this.name = name;
    this.#script =
      typeof script === "function"
        ? script
        : ({ index }) => {
            const reply = script[index];
            if (reply !== undefined) return reply;
            throw new WideSeekError("WS_IO", `the script ends after ${script.length} replies`, { op: "chat" });
          };
  }

  chat(request: ChatRequest): Promise<ChatReply> {
    return this.#answer({ messages: request.messages, prompt: undefined, settings: request });
  }

  complete(prompt: string, settings: CompletionSettings): Promise<ChatReply> {
    return this.#answer({ messages: [], prompt, settings });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
  }

  async #answer(asked: Omit<ScriptedCall, "index">): Promise<ChatReply> {
    asked.settings.signal?.throwIfAborted();
    if (this.#closed) throw new WideSeekError("WS_CLOSED", "the scripted model is closed", { op: "chat" });
    const call = { ...asked, index: this.calls.length };
    this.calls.push(call);
    const said = await this.#script(call);
    asked.settings.signal?.throwIfAborted();
    return {
      text: "",
      thinking: "",
      toolCalls: [],
      callErrors: [],
      finishReason: "stop",
      numPromptTokens: 0,
      numCompletionTokens: 0,
      ...(typeof said === "string" ? { text: said } : said),
    };
  }
}
