// A model whose replies are kept: the same request is answered from disk. Owns what is worth keeping and under which key.
import { createHash } from "node:crypto";
import type { ChatModel, ChatReply, ChatRequest, ChatUsage, CompletionSettings } from "@wideseek/spec";
import type { ReplyCache } from "./reply-cache.ts";

export interface CachedChatModelOptions {
  model: ChatModel;
  cache: ReplyCache;
  /** What beside the model's name decides its replies: fields that the server is sent, the state of local weights. */
  identity?: unknown;
}

/**
 * Keeps replies to requests that ask for the likeliest text or name a seed: any other request asks for a new draw.
 * Failures are never kept, and neither is a reply that `isUsable` of its request rejects. Closing it closes the model,
 * not the cache.
 */
export class CachedChatModel implements ChatModel {
  readonly name: string;
  readonly #model: ChatModel;
  readonly #cache: ReplyCache;
  readonly #identity: unknown;
  #numHits = 0;

  constructor({ model, cache, identity = null }: CachedChatModelOptions) {
    this.name = model.name;
    this.#model = model;
    this.#cache = cache;
    this.#identity = identity;
  }

  get usage(): ChatUsage {
    const none = {
      numCalls: 0,
      numFailedCalls: 0,
      numRetries: 0,
      numPromptTokens: 0,
      numCompletionTokens: 0,
      seconds: 0,
    };
    const usage = this.#model.usage ?? none;
    return { ...usage, numCalls: usage.numCalls + this.#numHits, numCacheHits: this.#numHits };
  }

  chat(request: ChatRequest): Promise<ChatReply> {
    const { messages, tools = [], jsonSchema = null } = request;
    const asked = { kind: "chat", messages, tools, jsonSchema };
    return this.#throughCache(asked, request, () => this.#model.chat(request));
  }

  complete(prompt: string, settings: CompletionSettings): Promise<ChatReply> {
    return this.#throughCache({ kind: "complete", prompt }, settings, () => this.#model.complete(prompt, settings));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#model[Symbol.asyncDispose]();
  }

  async #throughCache(asked: object, settings: CompletionSettings, ask: () => Promise<ChatReply>): Promise<ChatReply> {
    const { maxTokens = null, temperature = 0, topP = 1, stop = [], seed, signal, isUsable } = settings;
    signal?.throwIfAborted();
    if (temperature > 0 && seed === undefined) return await ask();
    const sampling = { maxTokens, temperature, topP, stop, seed: seed === undefined ? null : String(seed) };
    const key = contentKey({ model: this.name, identity: this.#identity, asked, sampling });
    const kept = this.#cache.get(key);
    if (kept !== undefined) {
      this.#numHits += 1;
      return kept;
    }
    const reply = await ask();
    if (isUsable?.(reply) ?? true) this.#cache.put(key, reply);
    return reply;
  }
}

/** SHA-256 of a JSON value, whatever the order of its keys. */
export function contentKey(value: unknown): Uint8Array {
  return createHash("sha256").update(JSON.stringify(value, sortedKeys)).digest();
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
