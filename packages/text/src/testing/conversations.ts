// For tests: random conversations in the form in which a model writes them.
import fc from "fast-check";
import type { ChatMessage } from "../chat-template.ts";

/** Text without control tokens that begins and ends with what merges easily with its surroundings. */
export const contentText: fc.Arbitrary<string> = fc
  .array(fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), fc.constantFrom("\n", "\n\n", ".", " ", "user\n")), {
    maxLength: 6,
  })
  .map((pieces) => pieces.join("").replaceAll("<", "("));

/** Not empty and without white space at its ends, which the Qwen3 template strips. */
const innerText = contentText.map((text) => text.trim() || "x");

export interface SampledTurn {
  /** The turn as the model writes it, without its end token. */
  text: string;
  message: ChatMessage;
  toolContents: string[];
}

/** Thinking, maybe some text, one to three calls, and what the tools answer. */
export const sampledTurn: fc.Arbitrary<SampledTurn> = fc
  .record({
    thinking: innerText,
    content: fc.option(innerText, { nil: "" }),
    calls: fc.array(fc.record({ name: fc.constantFrom("search", "access"), query: contentText }), {
      minLength: 1,
      maxLength: 3,
    }),
    toolContents: fc.array(contentText, { minLength: 1, maxLength: 3 }),
  })
  .map(({ thinking, content, calls, toolContents }) => {
    const toolCalls = calls.map(({ name, query }) => ({ name, arguments: JSON.stringify({ query }) }));
    const blocks = toolCalls.map(
      (call) => `<tool_call>\n{"name": "${call.name}", "arguments": ${call.arguments}}\n</tool_call>`,
    );
    return {
      text: `<think>\n${thinking}\n</think>\n\n${[...(content === "" ? [] : [content]), ...blocks].join("\n")}`,
      message: { role: "assistant", content, reasoningContent: thinking, toolCalls },
      toolContents,
    };
  });
