// The published Qwen3 tokenizer and chat template: llama.cpp's vectors, and our template against the published one.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import {
  type ChatMessage,
  ChatTemplate,
  ChatTokenizer,
  concatTokenIds,
  QWEN3_ADDED_TOKENS,
  readQwen3Template,
} from "../../packages/text/src/index.ts";
import { contentText, sampledTurn } from "../../packages/text/src/testing/conversations.ts";
import { sharedData } from "../shared-data.ts";

const dataDir = path.join(sharedData, "data/qwen3-tokenizer");
const tools = ["search", "access"].map((name) => ({
  type: "function" as const,
  function: {
    name,
    description: `Does ${name} — 查找 "pages"\n<b>`,
    parameters: { type: "object", properties: { n: { type: "integer", default: 3 } }, required: ["n"], strict: true },
  },
}));

describe.skipIf(!existsSync(dataDir))(`published Qwen3 tokenizer (${dataDir})`, () => {
  let chat: ChatTokenizer;
  beforeAll(async () => {
    chat = await ChatTokenizer.load(dataDir);
  });

  test("llama.cpp vectors, both ways", async () => {
    const inputs = (await readFile(`${dataDir}/ggml-vocab-qwen2.gguf.inp`, "utf8")).split("\n__ggml_vocab_test__\n");
    const outputs = (await readFile(`${dataDir}/ggml-vocab-qwen2.gguf.out`, "utf8")).split("\n");
    expect([inputs.length, outputs.length]).toEqual([47, 47]);
    for (const [index, input] of inputs.entries()) {
      const expected = (outputs[index] ?? "").split(" ").filter(Boolean).map(Number);
      expect([...(await chat.tokenizer.encode(input))]).toEqual(expected);
      expect(await chat.decode(Int32Array.from(expected))).toBe(input.normalize("NFC"));
    }
  });

  test("ids of the control tokens", () => {
    expect([...chat.tokenizer.controlTokens]).toEqual(
      QWEN3_ADDED_TOKENS.map(({ content }, index) => [content, 151643 + index]),
    );
    expect(chat.vocabSize).toBe(151669);
    expect(chat.stopTokenIds).toEqual([151645, 151643]);
  });

  test("no text forges a control token", async () => {
    const text = fc.array(fc.oneof(fc.constantFrom(...QWEN3_ADDED_TOKENS.map((token) => token.content)), contentText), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(text, async (pieces) => {
        const ids = await chat.tokenizer.encodeUntrusted(pieces.join(""));
        expect(ids.every((id) => id < 151643)).toBe(true);
        expect(await chat.decode(ids)).toBe(pieces.join("").normalize("NFC"));
      }),
    );
  });

  test("append-only histories equal the published template's rendering", async () => {
    await fc.assert(
      fc.asyncProperty(
        contentText,
        contentText,
        fc.array(sampledTurn, { maxLength: 3 }),
        async (system, user, turns) => {
          const messages: ChatMessage[] = [
            { role: "system", content: system },
            { role: "user", content: user },
          ];
          const history = [
            await chat.encodePrompt(
              [
                { role: "system", content: system },
                { role: "user", content: user },
              ],
              tools,
            ),
          ];
          for (const turn of turns) {
            history.push(await chat.encodeAssistantTurn(turn.text), await chat.encodeToolResponse(turn.toolContents));
            messages.push(turn.message, ...turn.toolContents.map((content) => ({ role: "tool" as const, content })));
          }
          const rendered = chat.template.render(messages, { tools, addGenerationPrompt: true });
          expect(concatTokenIds(history)).toEqual(await chat.tokenizer.encode(rendered));
        },
      ),
    );
  });

  test("our template renders what the published one renders", async () => {
    const published = await ChatTemplate.load(dataDir);
    const ours = new ChatTemplate(await readQwen3Template());
    const content = fc.oneof(
      contentText,
      fc
        .array(fc.constantFrom("<think>", "</think>", "\n", "a", "<tool_response>", "</tool_response>", " "), {
          maxLength: 7,
        })
        .map((pieces) => pieces.join("")),
      contentText.map((text) => `<tool_response>${text}</tool_response>`),
    );
    const toolCall = fc.record({
      name: fc.constantFrom("search", "access"),
      arguments: fc.oneof(
        fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 }),
        fc.constantFrom("{}", '{"query": "é"}'),
      ),
    });
    const message: fc.Arbitrary<ChatMessage> = fc.record(
      {
        role: fc.constantFrom("system", "user", "assistant", "tool"),
        content,
        reasoningContent: content,
        toolCalls: fc.array(toolCall, { maxLength: 3 }),
      },
      { requiredKeys: ["role", "content"] },
    );
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        fc.constantFrom([], tools),
        (messages, addGenerationPrompt, offered) => {
          const settings = { tools: offered, addGenerationPrompt };
          expect(ours.render(messages, settings)).toBe(published.render(messages, settings));
        },
      ),
      { numRuns: 2000 },
    );
  });
});
