// A model whose replies are kept: the same request is answered from disk. Owns what is worth keeping and under which key.
import { contentKey, type DiskCache } from "@wideseek/cache";
import type { ChatModel, ChatReply, ChatRequest, ChatUsage, CompletionSettings } from "@wideseek/spec";
import { z } from "zod";

export interface CachedChatModelOptions {
  model: ChatModel;
  /** Replies are kept by content; prompts are not in it. */
  cache: DiskCache;
  /** What beside the model's name decides its replies: fields that the server is sent, the state of local weights. */
  identity?: unknown;
}

const replySchema: z.ZodType<ChatReply> = z.object({
  text: z.string(),
  thinking: z.string(),
  toolCalls: z.array(z.object({ id: z.string(), name: z.string(), arguments: z.unknown() })),
  callErrors: z.array(z.string()),
  finishReason: z.enum(["stop", "length"]),
  numPromptTokens: z.number(),
  numCompletionTokens: z.number(),
});

/**
 * Keeps replies to requests that ask for the likeliest text or name a seed: any other request asks for a new draw.
 * Failures are never kept, and neither is a reply that `isUsable` of its request rejects. Closing it closes the model,
 * not the cache.
 */
export class CachedChatModel implements ChatModel {
  readonly name: string;
  readonly #model: ChatModel;
  readonly #cache: DiskCache;
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
    const kept = replySchema.safeParse(this.#cache.get(key));
    if (kept.success) {
      this.#numHits += 1;
      return kept.data;
    }
    const reply = await ask();
    if (isUsable?.(reply) ?? true) this.#cache.put(key, reply);
    return reply;
  }
}
