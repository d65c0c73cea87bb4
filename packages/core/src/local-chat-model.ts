// A model of our own engine behind messages and texts: the judge, page summaries and workflows on local weights. Owns stop
// texts and budgets; weights and template belong to the policy.
import { randomBytes } from "node:crypto";
import {
  type ChatMessage,
  type ChatModel,
  type ChatReply,
  type ChatRequest,
  type ChatUsage,
  type CompletionSettings,
  errorMessage,
  type Policy,
  WideSeekError,
} from "@wideseek/spec";
import { type ChatTokenizer, parseAssistantTurn } from "@wideseek/text";

export interface LocalChatModelOptions {
  policy: Policy & { readonly chat: LocalChat };
  /** Shown in reports and part of cache keys: the folder and what else tells weights apart. */
  name: string;
  /** Most tokens of a reply where a request names none; default: what the context leaves. */
  maxTokens?: number | undefined;
}

export type LocalChat = Pick<
  ChatTokenizer,
  "encodeConversation" | "decode" | "turnText" | "stopTokenIds" | "tokenizer"
>;

/** Why generation was ended by us; never leaves this file. */
const stopFound = Symbol("stop text found");

/** Closing it closes the policy. */
export class LocalChatModel implements ChatModel {
  readonly name: string;
  readonly #policy: LocalChatModelOptions["policy"];
  readonly #maxTokens: number;
  readonly #usage: ChatUsage = {
    numCalls: 0,
    numFailedCalls: 0,
    numRetries: 0,
    numCacheHits: 0,
    numPromptTokens: 0,
    numCompletionTokens: 0,
    seconds: 0,
  };

  constructor({ policy, name, maxTokens = Number.POSITIVE_INFINITY }: LocalChatModelOptions) {
    this.name = name;
    this.#policy = policy;
    this.#maxTokens = maxTokens;
  }

  get usage(): Readonly<ChatUsage> {
    return { ...this.#usage };
  }

  /** The engine cannot hold a reply to a schema: `jsonSchema` is for the caller to check. */
  async chat(request: ChatRequest): Promise<ChatReply> {
    const { chat } = this.#policy;
    return await this.#call(request, async () => {
      const promptIds = await this.#encode(request);
      const { tokenIds, text, finishReason } = await this.#generate(promptIds, request, chat.stopTokenIds);
      const turn = request.continueLast ? { thinking: "", text, calls: [], errors: [] } : parseAssistantTurn(text);
      return {
        text: turn.text,
        thinking: turn.thinking,
        toolCalls: turn.calls.map((call, index) => ({ id: `call_${index}`, ...call })),
        callErrors: turn.errors,
        finishReason,
        numPromptTokens: promptIds.length,
        numCompletionTokens: tokenIds.length,
      };
    });
  }

  async complete(prompt: string, settings: CompletionSettings): Promise<ChatReply> {
    const { chat } = this.#policy;
    return await this.#call(settings, async () => {
      // Tags such as <think> are the workflow's own; nothing in a plain prompt may open a turn or end the text.
      const parts = prompt.split(/(<\|[^|<>]*\|>)/).map((text, index) => ({ text, trusted: index % 2 === 0 }));
      const promptIds = await chat.tokenizer.encodeParts(parts);
      const { tokenIds, text, finishReason } = await this.#generate(promptIds, settings, chat.stopTokenIds);
      const numPromptTokens = promptIds.length;
      const numCompletionTokens = tokenIds.length;
      return { text, thinking: "", toolCalls: [], callErrors: [], finishReason, numPromptTokens, numCompletionTokens };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#policy[Symbol.asyncDispose]();
  }

  async #encode({ messages, tools, continueLast = false }: ChatRequest): Promise<Int32Array> {
    const { chat } = this.#policy;
    if (!continueLast) return await chat.encodeConversation(messages.map(templateMessage), tools);
    const [opening, begun] = await Promise.all([
      chat.encodeConversation(messages.slice(0, -1).map(templateMessage), tools),
      chat.tokenizer.encodeParts([{ text: messages.at(-1)?.content ?? "", trusted: false }]),
    ]);
    return Int32Array.from([...opening, ...begun]);
  }

  async #call(settings: CompletionSettings, work: () => Promise<ChatReply>): Promise<ChatReply> {
    settings.signal?.throwIfAborted();
    const usage = this.#usage;
    const start = performance.now();
    usage.numCalls += 1;
    try {
      const reply = await work();
      usage.numPromptTokens += reply.numPromptTokens;
      usage.numCompletionTokens += reply.numCompletionTokens;
      return reply;
    } catch (error) {
      usage.numFailedCalls += 1;
      settings.signal?.throwIfAborted();
      if (error instanceof WideSeekError) throw error;
      throw new WideSeekError("WS_IO", `${this.name}: ${errorMessage(error)}`, { op: "chat", cause: error });
    } finally {
      usage.seconds += (performance.now() - start) / 1000;
    }
  }

  /** The sampled ids up to the one that completes the first stop text, and their text up to its end. */
  async #generate(
    promptIds: Int32Array,
    settings: CompletionSettings,
    stopTokenIds: readonly number[],
  ): Promise<{ tokenIds: Int32Array; text: string; finishReason: ChatReply["finishReason"] }> {
    const { temperature = 0, topP = 1, signal } = settings;
    const stop = (settings.stop ?? []).filter((text) => text !== "");
    const watch = new StopWatch(this.#policy.chat, stop);
    try {
      const completion = await this.#policy.generate({
        promptIds,
        maxNewTokens: this.#room(promptIds.length, settings.maxTokens),
        seed: settings.seed ?? (temperature === 0 ? 0n : randomBytes(8).readBigUInt64LE()),
        sampling: { temperature, topP, topK: 0, minP: 0 },
        stopTokenIds,
        signal: signal === undefined ? watch.signal : AbortSignal.any([signal, watch.signal]),
        ...(stop.length > 0 && { onToken: (tokenId: number) => watch.see(tokenId) }),
      });
      const text = await this.#policy.chat.turnText(completion.tokenIds);
      const cut = await watch.cut(completion.tokenIds, text);
      return cut ?? { tokenIds: completion.tokenIds, text, finishReason: completion.finishReason };
    } catch (error) {
      signal?.throwIfAborted();
      if (!watch.signal.aborted || watch.signal.reason !== stopFound) throw error;
      const cut = await watch.cut(watch.tokenIds(), await this.#policy.chat.decode(watch.tokenIds()));
      if (cut === undefined) throw error;
      return cut;
    }
  }

  #room(numPromptTokens: number, maxTokens: number = this.#maxTokens): number {
    const { maxContextTokens } = this.#policy;
    const room = maxContextTokens - numPromptTokens;
    if (room >= 1) return Math.max(1, Math.min(room, maxTokens));
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `${this.name}: a prompt of ${numPromptTokens} tokens leaves no room in the context of ${maxContextTokens}; shorten it`,
      { op: "chat", details: { reason: "context", numPromptTokens, maxContextTokens } },
    );
  }
}

/** Watches sampled tokens for stop texts, off the path of decoding: the end is found a few tokens late and cut exactly. */
class StopWatch {
  readonly #controller = new AbortController();
  readonly #chat: LocalChat;
  readonly #stop: readonly string[];
  readonly #tokenIds: number[] = [];
  /** Tokens that were looked at. */
  #numChecked = 0;
  #checking = false;

  constructor(chat: LocalChat, stop: readonly string[]) {
    this.#chat = chat;
    this.#stop = stop;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  tokenIds(): Int32Array {
    return Int32Array.from(this.#tokenIds);
  }

  see(tokenId: number): void {
    this.#tokenIds.push(tokenId);
    if (this.#checking) return;
    this.#checking = true;
    void this.#check();
  }

  /** Ids and text up to the end of the first stop text; undefined when there is none. */
  async cut(
    tokenIds: Int32Array,
    text: string,
  ): Promise<{ tokenIds: Int32Array; text: string; finishReason: "stop" } | undefined> {
    const end = this.#firstEnd(text);
    if (end === undefined) return undefined;
    // The fewest ids whose text has the stop text: independent of how late the watch saw it.
    let [low, high] = [1, tokenIds.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#firstEnd(await this.#chat.decode(tokenIds.subarray(0, middle))) !== undefined) high = middle;
      else low = middle + 1;
    }
    return { tokenIds: tokenIds.slice(0, low), text: text.slice(0, end), finishReason: "stop" };
  }

  async #check(): Promise<void> {
    try {
      while (this.#numChecked < this.#tokenIds.length && !this.signal.aborted) {
        // A token holds at least one byte, so this many tokens before the new ones can begin a stop text.
        const overlap = Math.max(0, ...this.#stop.map((text) => Buffer.byteLength(text)));
        const tail = this.#tokenIds.slice(Math.max(0, this.#numChecked - overlap));
        this.#numChecked = this.#tokenIds.length;
        const text = await this.#chat.decode(Int32Array.from(tail));
        if (this.#firstEnd(text) !== undefined) this.#controller.abort(stopFound);
      }
    } catch {
      // Decoding fails again where its error is reported: when generation has ended.
    } finally {
      this.#checking = false;
    }
  }

  #firstEnd(text: string): number | undefined {
    const ends = this.#stop.flatMap((each) => {
      const at = text.indexOf(each);
      return at < 0 ? [] : [at + each.length];
    });
    return ends.length === 0 ? undefined : Math.min(...ends);
  }
}

function templateMessage(message: ChatMessage): Parameters<LocalChat["encodeConversation"]>[0][number] {
  const { role, content } = message;
  if (role !== "assistant" || !message.toolCalls?.length) return { role, content };
  return { role, content, toolCalls: message.toolCalls };
}
