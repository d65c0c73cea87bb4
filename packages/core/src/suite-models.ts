// The models of a suite's rows: what is missing to use one, and opening those of a row for agents in token ids or in
// messages. Owns no protocol.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import path from "node:path";
import type { AgentModel } from "@wideseek/agents";
import type { RunConfig, SuiteModel } from "@wideseek/config";
import { type ChatModel, type SamplingSettings, WideSeekError } from "@wideseek/spec";
import type { WorkflowModel } from "@wideseek/workflows";
import { openChatModel } from "./chat-models.ts";
import type { ChatPolicy } from "./chat-policy.ts";
import { loadPolicy } from "./load-policy.ts";
import { LocalChatModel } from "./local-chat-model.ts";
import { modelFingerprint } from "./model-folder.ts";

/** The smallest batch that the engine plans for; nothing is trained here. */
const NO_TRAINING_TOKENS = 1;

/** What stands between a model and its use, in words for who can change it; empty = nothing. */
export function missingParts(
  name: string,
  model: SuiteModel,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string[] {
  if (model.kind === "local") {
    if (existsSync(path.join(model.directory, "config.json"))) return [];
    return [`the weights of ${name}: no model in ${model.directory} (suite.models.${name}.directory)`];
  }
  const parts: string[] = [];
  if (model.baseUrl === null) parts.push(`the endpoint of ${name} (suite.models.${name}.baseUrl)`);
  if (model.apiKeyEnv !== null && !environment[model.apiKeyEnv]?.trim()) {
    parts.push(`the API key of ${name} in the environment variable ${model.apiKeyEnv}`);
  }
  return parts;
}

/** Opened models of one row. */
export class RowModels implements AsyncDisposable {
  readonly #policies: ReadonlyMap<string, ChatPolicy>;
  readonly #chats: ReadonlyMap<string, ChatModel>;
  readonly #stack: AsyncDisposableStack;

  private constructor(policies: Map<string, ChatPolicy>, chats: Map<string, ChatModel>, stack: AsyncDisposableStack) {
    this.#policies = policies;
    this.#chats = chats;
    this.#stack = stack;
  }

  /** @throws what is wrong with a model folder, WS_OUT_OF_MEMORY */
  static async open(models: ReadonlyMap<string, SuiteModel>, engine: RunConfig["engine"]): Promise<RowModels> {
    await using stack = new AsyncDisposableStack();
    const policies = new Map<string, ChatPolicy>();
    const chats = new Map<string, ChatModel>();
    for (const [name, model] of models) {
      if (model.kind === "api") {
        const { baseUrl } = model;
        if (baseUrl === null)
          throw new WideSeekError("WS_INVALID_ARGUMENT", `suite.models.${name}.baseUrl: is not set`);
        chats.set(name, await openChatModel({ ...model, baseUrl }, stack));
        continue;
      }
      const settings = model.engine ?? engine;
      const policy = stack.use(
        await loadPolicy({ modelDir: model.directory, ...settings, maxTrainTokens: NO_TRAINING_TOKENS }),
      );
      policies.set(name, policy);
      const { maxTokens } = model;
      chats.set(name, new LocalChatModel({ policy, name: model.directory, ...(maxTokens !== null && { maxTokens }) }));
    }
    return new RowModels(policies, chats, stack.move());
  }

  /** For our own agents: weights of ours speak in token ids. */
  agentModel(name: string, sampling: SamplingSettings): AgentModel {
    const policy = this.#policies.get(name);
    if (policy !== undefined) return { kind: "tokens", policy, chat: policy.chat, sampling };
    return { kind: "messages", model: this.#chat(name), sampling };
  }

  /** For other systems: all models speak in messages. */
  workflowModel(name: string): WorkflowModel {
    const policy = this.#policies.get(name);
    if (policy === undefined) return { model: this.#chat(name) };
    const { tokenizer } = policy.chat;
    return { model: this.#chat(name), countTokens: async (text) => (await tokenizer.encodeUntrusted(text)).length };
  }

  /** Token ids of traces as text. Teams of several checkpoints are expected to share a tokenizer. */
  decode(tokenIds: Int32Array): string | Promise<string> {
    const [policy] = this.#policies.values();
    return policy === undefined ? "" : policy.chat.decode(tokenIds);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #chat(name: string): ChatModel {
    const chat = this.#chats.get(name);
    if (chat === undefined) throw new WideSeekError("WS_INTERNAL", `suite: model ${name} is not open`);
    return chat;
  }
}

/** Tells what a row's episodes depend on: models by content, not by place; workflow and options. */
export async function rowFingerprint(
  row: { workflow: string; models: Readonly<Record<string, string>>; options: unknown },
  models: ReadonlyMap<string, SuiteModel>,
): Promise<string> {
  const identities: Record<string, unknown> = {};
  for (const [role, name] of Object.entries(row.models).sort()) {
    const model = models.get(name) as SuiteModel;
    if (model.kind === "local") {
      const weightDtype = model.engine?.weightDtype;
      identities[role] = { weights: await modelFingerprint(model.directory), maxTokens: model.maxTokens, weightDtype };
    } else {
      const { model: id, maxTokens, extraBody, jsonSchema } = model;
      identities[role] = { id, maxTokens, extraBody, jsonSchema };
    }
  }
  const text = JSON.stringify([row.workflow, row.options, identities]);
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
