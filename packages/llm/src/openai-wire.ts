// The OpenAI chat-completions and completions formats: request bodies out, replies in. Owns no connection.
import type { ChatMessage, ChatReply, ChatRequest, ChatToolCall, CompletionSettings } from "@wideseek/spec";
import { z } from "zod";
import { withStopText } from "./stop-texts.ts";

export type JsonBody = Record<string, unknown>;

export function chatBody(request: ChatRequest, withSchema: boolean): JsonBody {
  const { tools = [], jsonSchema } = request;
  return {
    messages: request.messages.map(wireMessage),
    ...settingsBody(request),
    ...(tools.length > 0 && { tools }),
    // The names of vLLM and SGLang; OpenAI's own servers have no such thing.
    ...(request.continueLast === true && { add_generation_prompt: false, continue_final_message: true }),
    ...(withSchema &&
      jsonSchema !== undefined && {
        response_format: {
          type: "json_schema",
          json_schema: { name: jsonSchema.name, schema: jsonSchema.schema, strict: true },
        },
      }),
  };
}

export function completionBody(prompt: string, settings: CompletionSettings): JsonBody {
  return { prompt, ...settingsBody(settings) };
}

/** Greedy unless told otherwise: a server's own default would make every judgement a draw. */
function settingsBody({ temperature = 0, topP, maxTokens, stop = [], seed }: CompletionSettings): JsonBody {
  return {
    temperature,
    ...(topP !== undefined && { top_p: topP }),
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
    ...(stop.length > 0 && { stop }),
    ...(seed !== undefined && { seed: foldSeed(seed) }),
  };
}

/** Servers take 31 bits at least; all 64 of ours count. */
function foldSeed(seed: bigint): number {
  return Number(BigInt.asUintN(31, seed ^ (seed >> 31n) ^ (seed >> 62n)));
}

function wireMessage(message: ChatMessage): JsonBody {
  if (message.role === "tool") return { role: "tool", tool_call_id: message.toolCallId, content: message.content };
  const { role, content } = message;
  if (role !== "assistant" || !message.toolCalls?.length) return { role, content };
  const tool_calls = message.toolCalls.map(({ id, name, arguments: value }) => ({
    id,
    type: "function",
    function: { name, arguments: JSON.stringify(value ?? {}) },
  }));
  return { role, content, tool_calls };
}

const usageSchema = z
  .object({ prompt_tokens: z.number().nullish(), completion_tokens: z.number().nullish() })
  .nullish()
  // Some servers leave it out, some fill it wrongly; a reply is not worth less for it.
  .catch(undefined);
const finishShape = {
  finish_reason: z.string().nullish(),
  /** vLLM: the stop text, a token id, or null. */
  stop_reason: z.unknown().optional(),
  /** SGLang: the same. */
  matched_stop: z.unknown().optional(),
};
const toolCallSchema = z.object({
  id: z.string().nullish(),
  function: z.object({ name: z.string(), arguments: z.unknown().optional() }),
});
const chatReplySchema = z.object({
  choices: z
    .array(
      z.object({
        message: z.object({
          content: z.string().nullish(),
          reasoning_content: z.string().nullish(),
          reasoning: z.string().nullish(),
          tool_calls: z.array(toolCallSchema).nullish(),
        }),
        ...finishShape,
      }),
    )
    .min(1),
  usage: usageSchema,
});
const completionReplySchema = z.object({
  choices: z.array(z.object({ text: z.string(), ...finishShape })).min(1),
  usage: usageSchema,
});

/** @throws ZodError when `value` is no reply */
export function readChatReply(value: unknown, request: ChatRequest): ChatReply {
  const { choices, usage } = chatReplySchema.parse(value);
  const choice = choices[0] as (typeof choices)[number];
  const { message } = choice;
  const shown = message.reasoning_content ?? message.reasoning ?? "";
  // Of a turn that had begun, half of the thinking lies in the request: only whole turns can be split.
  const { thinking, text } = request.continueLast
    ? { thinking: shown, text: message.content ?? "" }
    : splitThinking(message.content ?? "", shown);
  const toolCalls: ChatToolCall[] = [];
  const callErrors: string[] = [];
  for (const [index, call] of (message.tool_calls ?? []).entries()) {
    const parsed = parseArguments(call.function.arguments);
    if (typeof parsed === "string") callErrors.push(`Tool call ${index + 1} (${call.function.name}): ${parsed}`);
    else toolCalls.push({ id: call.id ?? `call_${index}`, name: call.function.name, arguments: parsed });
  }
  const prompt = request.messages.at(-1)?.content ?? "";
  return {
    text: restoreStop(text, choice, request.stop, prompt),
    thinking,
    toolCalls,
    callErrors,
    ...finish(choice),
    ...counts(usage),
  };
}

/** @throws ZodError when `value` is no reply */
export function readCompletionReply(value: unknown, prompt: string, settings: CompletionSettings): ChatReply {
  const { choices, usage } = completionReplySchema.parse(value);
  const choice = choices[0] as (typeof choices)[number];
  const text = restoreStop(choice.text, choice, settings.stop, prompt);
  return { text, thinking: "", toolCalls: [], callErrors: [], ...finish(choice), ...counts(usage) };
}

type Finish = { finish_reason?: string | null | undefined; stop_reason?: unknown; matched_stop?: unknown };

function restoreStop(text: string, choice: Finish, stop: readonly string[] = [], prompt: string): string {
  if (stop.length === 0) return text;
  const stopped = choice.finish_reason !== "length";
  const told = [choice.stop_reason, choice.matched_stop];
  const reported = told.find((value) => typeof value === "string") ?? told.find((value) => value !== undefined);
  return withStopText(text, stop, { prompt, reported, stopped });
}

function finish(choice: Finish): Pick<ChatReply, "finishReason"> {
  return { finishReason: choice.finish_reason === "length" ? "length" : "stop" };
}

function counts(usage: z.output<typeof usageSchema>): Pick<ChatReply, "numPromptTokens" | "numCompletionTokens"> {
  return { numPromptTokens: usage?.prompt_tokens ?? 0, numCompletionTokens: usage?.completion_tokens ?? 0 };
}

/** Servers without a reasoning parser leave `<think>` in the text; a template may have opened it in the prompt. */
function splitThinking(content: string, shown: string): { thinking: string; text: string } {
  const end = content.lastIndexOf("</think>");
  const open = content.trimStart().startsWith("<think>");
  if (end < 0 && !open) return { thinking: shown, text: content };
  const inside = end < 0 ? content : content.slice(0, end);
  const thinking = [shown, inside.replace(/^\s*<think>/, "").trim()].filter((part) => part !== "").join("\n");
  return { thinking, text: end < 0 ? "" : content.slice(end + "</think>".length).trimStart() };
}

/** The arguments as an object, or what is wrong with them. */
function parseArguments(value: unknown): Record<string, unknown> | string {
  let parsed = value;
  if (typeof value === "string") {
    try {
      parsed = JSON.parse(value.trim() === "" ? "{}" : value);
    } catch {
      return "the arguments are not valid JSON.";
    }
  }
  parsed ??= {};
  if (typeof parsed !== "object" || Array.isArray(parsed)) return "the arguments are not a JSON object.";
  return parsed as Record<string, unknown>;
}
