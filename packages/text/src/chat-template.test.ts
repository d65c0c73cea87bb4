import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ChatMessage, ChatTemplate, readQwen3Template } from "./chat-template.ts";

const qwen3 = new ChatTemplate(await readQwen3Template());
const search = {
  type: "function" as const,
  function: { name: "search", description: "Finds pages: é", parameters: { type: "object" } },
};

describe("Qwen3 template", () => {
  test("system and user", () => {
    const messages: ChatMessage[] = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Who?" },
    ];
    expect(qwen3.render(messages, { addGenerationPrompt: true })).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test("tools are listed in the system block as JSON with Python's separators", () => {
    const text = qwen3.render([{ role: "user", content: "Who?" }], { tools: [search] });
    expect(text).toContain(
      '<tools>\n{"type": "function", "function": {"name": "search", "description": "Finds pages: é", "parameters": {"type": "object"}}}\n</tools>',
    );
    expect(text.startsWith("<|im_start|>system\n# Tools\n\n")).toBe(true);
  });

  test("thinking, calls and tool messages after the last query", () => {
    const messages: ChatMessage[] = [
      { role: "user", content: "Who?" },
      {
        role: "assistant",
        content: "",
        reasoningContent: "Look.",
        toolCalls: [
          { name: "search", arguments: { queries: ["a"] } },
          { name: "search", arguments: '{"queries": ["b"]}' },
        ],
      },
      { role: "tool", content: "A" },
      { role: "tool", content: "B" },
      { role: "assistant", content: "C", reasoningContent: "Done." },
    ];
    expect(qwen3.render(messages)).toBe(
      [
        "<|im_start|>user\nWho?<|im_end|>",
        "<|im_start|>assistant\n<think>\nLook.\n</think>\n\n<tool_call>",
        '{"name": "search", "arguments": {"queries": ["a"]}}\n</tool_call>\n<tool_call>',
        '{"name": "search", "arguments": {"queries": ["b"]}}\n</tool_call><|im_end|>',
        "<|im_start|>user\n<tool_response>\nA\n</tool_response>\n<tool_response>\nB\n</tool_response><|im_end|>",
        "<|im_start|>assistant\n<think>\nDone.\n</think>\n\nC<|im_end|>\n",
      ].join("\n"),
    );
  });

  test("thinking before the last query is dropped", () => {
    const messages: ChatMessage[] = [
      { role: "user", content: "Who?" },
      { role: "assistant", content: "<think>\nLook.\n</think>\n\nHer." },
      { role: "user", content: "Why?" },
    ];
    expect(qwen3.render(messages)).toContain("<|im_start|>assistant\nHer.<|im_end|>\n");
  });
});

describe("sources", () => {
  let modelDir: string;
  beforeEach(async () => {
    modelDir = await mkdtemp(join(tmpdir(), "wideseek-template-"));
  });
  afterEach(() => rm(modelDir, { recursive: true, force: true }));
  const write = (name: string, text: string): Promise<void> => writeFile(join(modelDir, name), text);
  const rendered = async (): Promise<string> =>
    (await ChatTemplate.load(modelDir)).render([{ role: "user", content: "x" }]);

  test("the file wins over the configuration", async () => {
    await write("tokenizer_config.json", JSON.stringify({ chat_template: "config" }));
    expect(await rendered()).toBe("config");
    await write("chat_template.jinja", "file");
    expect(await rendered()).toBe("file");
  });

  test("of several named templates the default one", async () => {
    const named = [
      { name: "rag", template: "rag" },
      { name: "default", template: "chat" },
    ];
    await write("tokenizer_config.json", JSON.stringify({ chat_template: named }));
    expect(await rendered()).toBe("chat");
  });

  test("no template, an unreadable one, none at all", async () => {
    await expect(ChatTemplate.load(modelDir)).rejects.toMatchObject({ code: "WS_IO" });
    await write("tokenizer_config.json", "{}");
    await expect(ChatTemplate.load(modelDir)).rejects.toMatchObject({ code: "WS_CORRUPT_FILE" });
    await write("chat_template.jinja", "{% if %}");
    await expect(ChatTemplate.load(modelDir)).rejects.toMatchObject({
      code: "WS_CORRUPT_FILE",
      message: expect.stringContaining("chat_template.jinja"),
    });
  });

  test("a conversation that the template refuses", async () => {
    await write("chat_template.jinja", "{{ raise_exception('roles must alternate') }}");
    await expect(rendered()).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringContaining("roles must alternate"),
    });
    expect(() => qwen3.render([])).toThrowError(expect.objectContaining({ code: "WS_INVALID_ARGUMENT" }));
  });
});
