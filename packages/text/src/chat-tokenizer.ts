// Conversations as token ids: prompts, what follows a sampled turn, and sampled turns back to text.
import { randomUUID } from "node:crypto";
import { type ToolDefinition, WideSeekError } from "@wideseek/spec";
import { type ChatMessage, ChatTemplate, type RenderSettings } from "./chat-template.ts";
import { concatTokenIds, type TextPart, Tokenizer } from "./tokenizer.ts";

export interface PromptMessage {
  role: "system" | "user";
  content: string;
}

export interface AfterTurn {
  /** False when the sampled turn was cut before its end token: the end token is then given, before what follows. */
  endedWithStop: boolean;
}

/**
 * Append-only histories: prompt ids + sampled ids + `encodeToolResponse` ids + sampled ids + ... are the ids of the
 * conversation as the chat template renders it. Control tokens come from the template only; whatever a message
 * contains is encoded as ordinary text.
 */
export class ChatTokenizer {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** Ends an assistant turn (`<|im_end|>`). */
  readonly turnEndTokenId: number;
  /** A sampled turn ends with any of these. */
  readonly stopTokenIds: readonly number[];
  readonly #turnEnd: string;
  /** Stands for message contents while rendering; unpredictable, so that no text can contain it. */
  readonly #slotName: string = randomUUID();

  /** @throws WS_UNSUPPORTED when the template changes contents or does not close turns with a control token */
  constructor(tokenizer: Tokenizer, template: ChatTemplate) {
    this.tokenizer = tokenizer;
    this.template = template;
    const afterTurn = this.#textAfterTurn([{ role: "user", content: "" }]);
    const turnEnd = [...tokenizer.controlTokens.keys()].find((token) => afterTurn.startsWith(token));
    if (turnEnd === undefined) throw unsupportedTemplate("does not end an assistant turn with a control token");
    this.#turnEnd = turnEnd;
    this.turnEndTokenId = tokenizer.tokenId(turnEnd);
    const endOfText = tokenizer.controlTokens.get("<|endoftext|>");
    this.stopTokenIds = [
      ...new Set([this.turnEndTokenId, ...tokenizer.eosTokenIds, ...(endOfText === undefined ? [] : [endOfText])]),
    ];
    this.#checkContentsUnchanged();
  }

  /** @throws WS_IO, WS_CORRUPT_FILE, WS_UNSUPPORTED */
  static async load(modelDir: string): Promise<ChatTokenizer> {
    const [tokenizer, template] = await Promise.all([Tokenizer.load(modelDir), ChatTemplate.load(modelDir)]);
    return new ChatTokenizer(tokenizer, template);
  }

  get vocabSize(): number {
    return this.tokenizer.vocabSize;
  }

  /** The opening of a conversation, up to and with the header of the first assistant turn. */
  async encodePrompt(messages: readonly PromptMessage[], tools: readonly ToolDefinition[] = []): Promise<Int32Array> {
    const rendered = this.template.render(this.#withSlots(messages), { tools, addGenerationPrompt: true });
    return this.tokenizer.encodeParts(this.#fillSlots(rendered, messages));
  }

  /**
   * A conversation with any roles, up to and with the header of the next assistant turn, as the template renders it now:
   * unlike an append-only history it may drop the thinking of earlier turns. Texts of calls are data too, keys included.
   */
  async encodeConversation(
    messages: readonly ChatMessage[],
    tools: readonly ToolDefinition[] = [],
  ): Promise<Int32Array> {
    const contents: string[] = [];
    const slot = (text: string): string => this.#slot(contents.push(text) - 1);
    const slotted = messages.map((message): ChatMessage => {
      const { content, reasoningContent, toolCalls } = message;
      return {
        ...message,
        // Templates leave out an empty text before calls; a slot would make it look like one.
        content: content === "" ? "" : slot(content),
        ...(reasoningContent !== undefined && { reasoningContent: slot(reasoningContent) }),
        ...(toolCalls !== undefined && {
          toolCalls: toolCalls.map((call) => ({
            name: slot(jsonInner(call.name)),
            arguments: mapTexts(call.arguments, (text) => slot(jsonInner(text))),
          })),
        }),
      };
    });
    const rendered = this.template.render(slotted, { tools, addGenerationPrompt: true });
    return this.tokenizer.encodeParts(this.#fill(rendered, contents));
  }

  /** What follows a sampled turn: its closing newline, the tool messages, the next assistant header. */
  async encodeToolResponse(
    contents: readonly string[] | string,
    after: AfterTurn = { endedWithStop: true },
  ): Promise<Int32Array> {
    const list = typeof contents === "string" ? [contents] : contents;
    if (list.length === 0)
      throw new WideSeekError("WS_INVALID_ARGUMENT", "a tool response needs at least one content, got 0", {
        op: "encodeToolResponse",
      });
    return this.#encodeAfterTurn(
      list.map((content) => ({ role: "tool", content })),
      after,
    );
  }

  /**
   * The same with a user message, e.g. to report an error. Qwen3's template would drop the thinking of the turns
   * before it; an append-only history keeps it.
   */
  async encodeUserMessage(content: string, after: AfterTurn = { endedWithStop: true }): Promise<Int32Array> {
    return this.#encodeAfterTurn([{ role: "user", content }], after);
  }

  /** A whole assistant turn written by us (expert traces): `<think>`, `<tool_call>` are control tokens; the end token is added. */
  async encodeAssistantTurn(text: string): Promise<Int32Array> {
    return concatTokenIds([await this.tokenizer.encode(text), Int32Array.of(this.turnEndTokenId)]);
  }

  /** Text of the ids, control tokens included. */
  async decode(tokenIds: Int32Array): Promise<string> {
    return this.tokenizer.decode(tokenIds);
  }

  /** Text of a sampled turn without its stop token. */
  async turnText(tokenIds: Int32Array): Promise<string> {
    const last = tokenIds.at(-1);
    const stopped = last !== undefined && this.stopTokenIds.includes(last);
    return this.decode(stopped ? tokenIds.subarray(0, -1) : tokenIds);
  }

  /** Whether the ids end with the turn's own end token, which is what `AfterTurn.endedWithStop` asks. */
  endsTurn(tokenIds: Int32Array): boolean {
    return tokenIds.at(-1) === this.turnEndTokenId;
  }

  async #encodeAfterTurn(messages: readonly ChatMessage[], after: AfterTurn): Promise<Int32Array> {
    const text = this.#textAfterTurn(this.#withSlots(messages));
    const missing = after.endedWithStop ? text.slice(this.#turnEnd.length) : text;
    return this.tokenizer.encodeParts(this.#fillSlots(missing, messages));
  }

  /** What the template writes after an assistant turn that is followed by `messages`. */
  #textAfterTurn(messages: readonly ChatMessage[]): string {
    const turn = this.#slot("turn");
    const rendered = this.template.render(
      [{ role: "user", content: this.#slot("query") }, { role: "assistant", content: turn }, ...messages],
      { addGenerationPrompt: true },
    );
    const start = rendered.indexOf(turn);
    if (start < 0) throw unsupportedTemplate("leaves out the content of an assistant turn");
    return rendered.slice(start + turn.length);
  }

  #slot(key: string | number): string {
    return `[${this.#slotName}:${key}]`;
  }

  #withSlots(messages: readonly ChatMessage[]): ChatMessage[] {
    return messages.map((message, index) => ({ ...message, content: this.#slot(index) }));
  }

  #fillSlots(rendered: string, messages: readonly ChatMessage[]): TextPart[] {
    return this.#fill(
      rendered,
      messages.map((message) => message.content),
    );
  }

  #fill(rendered: string, contents: readonly string[]): TextPart[] {
    // A capturing group makes split return template text and message numbers in turn.
    return rendered.split(new RegExp(`\\[${this.#slotName}:(\\d+)\\]`)).map((piece, index) => {
      if (index % 2 === 0) return { text: piece, trusted: true };
      return { text: contents[Number(piece)] ?? "", trusted: false };
    });
  }

  /** Slots only work with templates that copy contents as they are; the white space finds those that trim. */
  #checkContentsUnchanged(): void {
    const content = "\n <x> \n";
    const prompt: ChatMessage[] = [
      { role: "system", content },
      { role: "user", content },
    ];
    const results: ChatMessage[] = [
      { role: "tool", content },
      { role: "tool", content },
    ];
    const settings: RenderSettings = { addGenerationPrompt: true };
    const join = (parts: TextPart[]): string => parts.map((part) => part.text).join("");
    const unchanged =
      join(this.#fillSlots(this.template.render(this.#withSlots(prompt), settings), prompt)) ===
        this.template.render(prompt, settings) &&
      join(this.#fillSlots(this.#textAfterTurn(this.#withSlots(results)), results)) === this.#textAfterTurn(results);
    if (!unchanged) throw unsupportedTemplate("changes the contents of messages");
  }
}

/** As it stands between the quotes of a JSON string, where templates write the texts of calls. */
function jsonInner(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** The same JSON value with every text and key replaced. */
function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [change(key), mapTexts(item, change)]));
}

function unsupportedTemplate(what: string): WideSeekError {
  return new WideSeekError(
    "WS_UNSUPPORTED",
    `the chat template ${what}, so histories cannot be append-only; use a Qwen3-style template`,
    { op: "loadChatTokenizer" },
  );
}
