// Opens the models that a config names for judging and summarising. Owns which parts belong together and what is closed.
import { DiskCache } from "@wideseek/cache";
import type { ChatModelConfig, JudgeConfig, RunConfig, SummaryConfig } from "@wideseek/config";
import { CachedChatModel, openaiChatModel } from "@wideseek/llm";
import { LlmJudge, RuleJudge } from "@wideseek/rewards";
import { type ChatModel, type Judge, WideSeekError } from "@wideseek/spec";
import { PageSummarizer } from "@wideseek/tools";
import { loadPolicy } from "./load-policy.ts";
import { LocalChatModel } from "./local-chat-model.ts";
import { modelFingerprint } from "./model-folder.ts";

/** The smallest batch that the engine plans for; models that only speak train nothing. */
const NO_TRAINING_TOKENS = 1;

/** The judge of a run, its page summaries and the models behind them. */
export class RunModels implements AsyncDisposable {
  readonly judge: Judge;
  /** Undefined where agents read pages as they are. */
  readonly summarizer: PageSummarizer | undefined;
  /** By the section that names them. */
  readonly models: ReadonlyMap<"judge" | "summary", ChatModel>;
  /** Names of those behind a server. */
  readonly #served: readonly ("judge" | "summary")[];
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<RunModels, "judge" | "summarizer" | "models">,
    served: readonly ("judge" | "summary")[],
    stack: AsyncDisposableStack,
  ) {
    this.judge = parts.judge;
    this.summarizer = parts.summarizer;
    this.models = parts.models;
    this.#served = served;
    this.#stack = stack;
  }

  /** @throws WS_INVALID_ARGUMENT for a missing key, and what is wrong with a model folder or a cache file */
  static async open({ judge, summary }: Pick<RunConfig, "judge" | "summary">): Promise<RunModels> {
    await using stack = new AsyncDisposableStack();
    const models = new Map<"judge" | "summary", ChatModel>();
    if (judge.kind !== "rule") models.set("judge", await openChatModel(judge, stack));
    if (summary.kind === "api" || summary.kind === "local") models.set("summary", await openChatModel(summary, stack));
    const parts = {
      judge: judgeOf(judge, models.get("judge")),
      summarizer: summarizerOf(summary, models.get(summary.kind === "judge" ? "judge" : "summary")),
      models,
    };
    const served = (["judge", "summary"] as const).filter((name) => ({ judge, summary })[name].kind === "api");
    return new RunModels(parts, served, stack.move());
  }

  /**
   * Asks each server for a word, so that a wrong key, model or address is found before a run and not by all of its
   * episodes. A reply that the cache has counts: what was answered once can be repeated offline.
   * @throws WS_IO, WS_TIMEOUT and WS_INVALID_ARGUMENT naming the section; `signal.reason` on abort
   */
  async check(signal?: AbortSignal): Promise<void> {
    for (const name of this.#served) {
      try {
        const content = "Reply with one word: ready";
        await this.models.get(name)?.chat({ messages: [{ role: "user", content }], signal });
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof WideSeekError)) throw error;
        const { code, op = "check", details } = error;
        throw new WideSeekError(code, `${name}: ${error.message}`, { op, details, cause: error });
      }
    }
  }

  /** True when the judging model was asked and never gave a judgement: dead, or none that can judge. */
  get judgeFailed(): boolean {
    if (!(this.judge instanceof LlmJudge)) return false;
    const { numAsked, numAnswered } = this.judge.counts;
    return numAsked > 0 && numAnswered === 0;
  }

  /** Counters since the models were opened, under TensorBoard tags. */
  metrics(): Record<string, number> {
    const metrics: Record<string, number> = {};
    for (const [name, { usage }] of this.models) {
      if (usage === undefined) continue;
      metrics[`${name}/calls`] = usage.numCalls;
      metrics[`${name}/failed_calls`] = usage.numFailedCalls;
      metrics[`${name}/retries`] = usage.numRetries;
      metrics[`${name}/cache_hits`] = usage.numCacheHits;
      metrics[`${name}/prompt_tokens`] = usage.numPromptTokens;
      metrics[`${name}/completion_tokens`] = usage.numCompletionTokens;
    }
    if (this.summarizer) {
      metrics["summary/summaries"] = this.summarizer.counts.numSummaries;
      metrics["summary/failures"] = this.summarizer.counts.numFailures;
    }
    return metrics;
  }

  /** One line for people, "" where no model was asked anything. */
  describe(): string {
    const lines = [...this.models].flatMap(([name, { name: model, usage }]) => {
      if (!usage?.numCalls) return [];
      const { numCalls, numCacheHits, numFailedCalls, numPromptTokens, numCompletionTokens } = usage;
      const tokens = `${numPromptTokens} prompt and ${numCompletionTokens} reply tokens`;
      return [
        `${name} ${model}: ${numCalls} calls, ${numCacheHits} from the cache, ${numFailedCalls} failed; ${tokens}`,
      ];
    });
    if (this.summarizer) {
      const { numSummaries, numFailures } = this.summarizer.counts;
      lines.push(`pages: ${numSummaries} summarised, ${numFailures} shown as they are because no summary could be had`);
    }
    return lines.join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** The model and its cache; both are closed by `stack`. */
export async function openChatModel(config: ChatModelConfig, stack: AsyncDisposableStack): Promise<ChatModel> {
  const { model, identity } = config.kind === "api" ? openServer(config) : await loadLocal(config);
  stack.use(model);
  if (config.cacheFile === null) return model;
  const maxBytes = config.cacheMaxMiB * 2 ** 20;
  const cache = stack.use(DiskCache.open(config.cacheFile, { contents: "model replies", maxBytes }));
  return new CachedChatModel({ model, cache, identity });
}

function openServer(config: Extract<ChatModelConfig, { kind: "api" }>): { model: ChatModel; identity: unknown } {
  const { baseUrl, model, apiKeyEnv, maxConcurrent, attemptSeconds, deadlineSeconds, maxAttempts } = config;
  const { breakerFailures, breakerSeconds, maxTokens, jsonSchema, extraBody } = config;
  const client = openaiChatModel({
    ...{ baseUrl, model, apiKeyEnv, maxConcurrent, attemptSeconds, deadlineSeconds, maxAttempts },
    ...{ breakerFailures, breakerSeconds, maxTokens, jsonSchema, extraBody },
  });
  // The same model at another address gives the same replies; other fields may not.
  return { model: client, identity: { maxTokens, jsonSchema, extraBody } };
}

async function loadLocal(
  config: Extract<ChatModelConfig, { kind: "local" }>,
): Promise<{ model: ChatModel; identity: unknown }> {
  const { directory, engine, maxTokens } = config;
  const policy = await loadPolicy({ modelDir: directory, ...engine, maxTrainTokens: NO_TRAINING_TOKENS });
  const model = new LocalChatModel({ policy, name: directory, ...(maxTokens !== null && { maxTokens }) });
  const { weightDtype } = engine;
  return { model, identity: { maxTokens, weightDtype, weights: await modelFingerprint(directory) } };
}

function judgeOf(config: JudgeConfig, model: ChatModel | undefined): Judge {
  if (config.kind === "rule" || model === undefined) return new RuleJudge();
  const { maxItems, maxCharacters, textCharacters, maxReadings } = config;
  return new LlmJudge({ model, options: { maxItems, maxCharacters, textCharacters, maxReadings } });
}

function summarizerOf(config: SummaryConfig, model: ChatModel | undefined): PageSummarizer | undefined {
  if (config.kind === "none" || model === undefined) return undefined;
  return new PageSummarizer({ model, ...(config.maxSummaryTokens !== null && { maxTokens: config.maxSummaryTokens }) });
}
