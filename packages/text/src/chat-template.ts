// Renders conversations with the model's own Jinja chat template.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { errorMessage, type ToolCall, type ToolDefinition, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { parseModelJson, readModelFile, readOptionalModelFile } from "./model-files.ts";

const TEMPLATE_FILE = "chat_template.jinja";
const CONFIG_FILE = "tokenizer_config.json";

const ConfigFile = z.looseObject({
  chat_template: z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]).nullish(),
});

export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  /** Thinking of an assistant turn, without its tags. Absent: the template looks for `</think>` in `content`. */
  reasoningContent?: string | undefined;
  toolCalls?: readonly ToolCall[] | undefined;
}

export interface RenderSettings {
  tools?: readonly ToolDefinition[] | undefined;
  /** Ends the text with the header of the next assistant turn. */
  addGenerationPrompt?: boolean | undefined;
}

/**
 * The Jinja library's `strip`, `lstrip` and `rstrip` remove all white space where Jinja2 removes the characters it is
 * told. Qwen3 strips newlines from the thinking and text of assistant turns; nothing else is affected.
 */
export class ChatTemplate {
  readonly source: string;
  readonly #template: Template;

  /** @param where names the source in errors. @throws WS_CORRUPT_FILE when it does not parse */
  constructor(source: string, where = "chat template") {
    this.source = source;
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new WideSeekError("WS_CORRUPT_FILE", `${where} is not a Jinja template: ${errorMessage(error)}`, {
        op: "loadChatTemplate",
        details: { where },
        cause: error,
      });
    }
  }

  /** chat_template.jinja of the folder, else `chat_template` of its tokenizer_config.json. @throws WS_IO, WS_CORRUPT_FILE */
  static async load(modelDir: string): Promise<ChatTemplate> {
    const source = await readOptionalModelFile(modelDir, TEMPLATE_FILE);
    if (source !== null) return new ChatTemplate(source, join(modelDir, TEMPLATE_FILE));
    const where = join(modelDir, CONFIG_FILE);
    const config = parseModelJson(modelDir, CONFIG_FILE, await readModelFile(modelDir, CONFIG_FILE), ConfigFile);
    // Several templates may be listed by name; "default" is the one for conversations.
    const template = Array.isArray(config.chat_template)
      ? config.chat_template.find((entry) => entry.name === "default")?.template
      : config.chat_template;
    if (template == null)
      throw new WideSeekError(
        "WS_CORRUPT_FILE",
        `${where} has no chat_template and there is no ${TEMPLATE_FILE} beside it; add one of the two`,
        { op: "loadChatTemplate", details: { path: where, key: "chat_template" } },
      );
    return new ChatTemplate(template, where);
  }

  /** @throws WS_INVALID_ARGUMENT when the template rejects the conversation */
  render(messages: readonly ChatMessage[], settings: RenderSettings = {}): string {
    if (messages.length === 0)
      throw new WideSeekError("WS_INVALID_ARGUMENT", "a conversation needs at least one message, got 0", {
        op: "renderChat",
      });
    try {
      return this.#template.render({
        messages: messages.map(templateMessage),
        tools: settings.tools?.length ? settings.tools : null,
        add_generation_prompt: settings.addGenerationPrompt ?? false,
      });
    } catch (error) {
      throw new WideSeekError(
        "WS_INVALID_ARGUMENT",
        `the chat template rejects this conversation: ${errorMessage(error)}`,
        { op: "renderChat", details: { roles: messages.map((message) => message.role) }, cause: error },
      );
    }
  }
}

/** Source of the Qwen3 template that ships with this package. */
export async function readQwen3Template(): Promise<string> {
  return readFile(new URL("../qwen3.jinja", import.meta.url), "utf8");
}

/** Names as templates know them; an absent key must stay absent, templates test for it. */
function templateMessage(message: ChatMessage): Record<string, unknown> {
  return {
    role: message.role,
    content: message.content,
    ...(message.reasoningContent === undefined ? {} : { reasoning_content: message.reasoningContent }),
    ...(message.toolCalls === undefined
      ? {}
      : { tool_calls: message.toolCalls.map((call) => ({ type: "function", function: call })) }),
  };
}
