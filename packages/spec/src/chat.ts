// A language model behind messages and texts instead of token ids: an OpenAI-compatible server, or a model of our own
// engine with its chat template. Nothing that comes through here can be trained on: ids and log-probabilities stay behind.
import type { ToolCall, ToolDefinition } from "./tool.ts";

export type ChatMessage =
  | { role: "system" | "user"; content: string }
  | { role: "assistant"; content: string; toolCalls?: readonly ChatToolCall[] | undefined }
  | { role: "tool"; content: string; toolCallId: string };

export interface ChatToolCall extends ToolCall {
  id: string;
}

export interface CompletionSettings {
  /** Left out: what the context and the server allow. */
  maxTokens?: number | undefined;
  /** Default 0: greedy. */
  temperature?: number | undefined;
  topP?: number | undefined;
  /** Generation ends after the first of these texts; the reply contains it at its end, where the model tells which it was. */
  stop?: readonly string[] | undefined;
  /** The same request with the same seed gives the same reply where the model can promise that. */
  seed?: bigint | undefined;
  signal?: AbortSignal | undefined;
  /** Asked before a cache keeps a reply: one that the caller cannot use must be asked for again. Default: all are kept. */
  isUsable?: ((reply: ChatReply) => boolean) | undefined;
}

export interface ChatRequest extends CompletionSettings {
  messages: readonly ChatMessage[];
  tools?: readonly ToolDefinition[] | undefined;
  /** The last message is the assistant's and not over: the reply goes on with it, and thinking stays in its `text`. */
  continueLast?: boolean | undefined;
  /** JSON schema of the whole reply, where the model can be held to one; a caller checks the reply all the same. */
  jsonSchema?: { name: string; schema: Readonly<Record<string, unknown>> } | undefined;
}

export interface ChatReply {
  /** Outside of thinking and tool calls. */
  text: string;
  /** What the model thought before; empty where it or the server does not show it. */
  thinking: string;
  toolCalls: readonly ChatToolCall[];
  /** What was wrong with calls that could not be read, in words for the model. */
  callErrors: readonly string[];
  finishReason: "stop" | "length";
  numPromptTokens: number;
  numCompletionTokens: number;
}

/** What a model was asked since it was opened. */
export interface ChatUsage {
  numCalls: number;
  /** Calls that rejected. */
  numFailedCalls: number;
  /** Further attempts of calls whose first one failed. */
  numRetries: number;
  /** Calls that a cache answered; they are in no other number but `numCalls`. */
  numCacheHits: number;
  numPromptTokens: number;
  numCompletionTokens: number;
  /** Summed over calls, waiting included. */
  seconds: number;
}

/**
 * Rejects on abort, WS_TIMEOUT, WS_CLOSED, with WS_INVALID_ARGUMENT when the request itself is refused (`details.reason`
 * is "context" when it is too long), and with WS_IO when no reply could be had; never for what a reply says.
 */
export interface ChatModel extends AsyncDisposable {
  readonly name: string;
  readonly usage?: Readonly<ChatUsage> | undefined;
  /** The next message of a conversation. */
  chat(request: ChatRequest): Promise<ChatReply>;
  /** The continuation of a plain text, without a chat template. `toolCalls` is empty and thinking stays in `text`. */
  complete(prompt: string, settings: CompletionSettings): Promise<ChatReply>;
}
