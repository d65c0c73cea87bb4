// A policy whose turns come from a function instead of a network: expert traces for the cold start, and tests.
import { type Completion, type GenerateRequest, type Policy, WideSeekError } from "@wideseek/spec";
import type { ChatTokenizer } from "@wideseek/text";

export interface ScriptedContext {
  /** The prompt as text, control tokens included. */
  text: string;
  promptIds: Int32Array;
  seed: bigint;
  signal: AbortSignal | undefined;
}

export interface ScriptedPolicySettings {
  chat: Pick<ChatTokenizer, "decode" | "encodeAssistantTurn" | "vocabSize">;
  /** The next turn, without end token; `<think>` and `<tool_call>` become control tokens. */
  reply: (context: ScriptedContext) => string | Promise<string>;
  maxContextTokens?: number | undefined;
  version?: bigint | undefined;
}

/** Log-probabilities are 0: a scripted turn is certain. What `reply` throws, `generate` rejects with. */
export class ScriptedPolicy implements Policy {
  readonly maxContextTokens: number;
  readonly version: bigint;
  readonly #chat: ScriptedPolicySettings["chat"];
  readonly #reply: ScriptedPolicySettings["reply"];
  #closed = false;

  constructor({ chat, reply, maxContextTokens = 32_768, version = 0n }: ScriptedPolicySettings) {
    this.#chat = chat;
    this.#reply = reply;
    this.maxContextTokens = maxContextTokens;
    this.version = version;
  }

  get vocabSize(): number {
    return this.#chat.vocabSize;
  }

  async generate({ promptIds, maxNewTokens, seed, signal, onToken }: GenerateRequest): Promise<Completion> {
    if (this.#closed) throw new WideSeekError("WS_CLOSED", "generate: the policy is closed", { op: "generate" });
    if (maxNewTokens < 1 || promptIds.length + maxNewTokens > this.maxContextTokens) {
      throw new WideSeekError(
        "WS_INVALID_ARGUMENT",
        `generate: ${promptIds.length} prompt tokens and ${maxNewTokens} new ones; at most ${this.maxContextTokens} together, at least 1 new`,
        { op: "generate" },
      );
    }
    signal?.throwIfAborted();
    const policyVersion = this.version;
    const turn = await untilAborted(this.#turn(promptIds, seed, signal), signal);
    const tokenIds = turn.slice(0, maxNewTokens);
    if (onToken) for (const tokenId of tokenIds) onToken(tokenId);
    return {
      tokenIds,
      logprobs: new Float32Array(tokenIds.length),
      finishReason: turn.length <= maxNewTokens ? "stop" : "length",
      policyVersion,
      numCachedTokens: 0,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #turn(promptIds: Int32Array, seed: bigint, signal: AbortSignal | undefined): Promise<Int32Array> {
    const text = await this.#chat.decode(promptIds);
    return this.#chat.encodeAssistantTurn(await this.#reply({ text, promptIds, seed, signal }));
  }
}

async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
