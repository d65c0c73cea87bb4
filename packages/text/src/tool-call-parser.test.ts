import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sampledTurn } from "./testing/conversations.ts";
import { parseAssistantTurn } from "./tool-call-parser.ts";

const call = (name: string, body = `{"name": "${name}", "arguments": {"query": "q"}}`): string =>
  `<tool_call>\n${body}\n</tool_call>`;
const names = (text: string): string[] => parseAssistantTurn(text).calls.map(({ name }) => name);

describe("well-formed turns", () => {
  test("an answer after thinking", () => {
    expect(parseAssistantTurn("<think>\nLook.\n</think>\n\nIt is 42.\n")).toEqual({
      thinking: "Look.",
      text: "It is 42.",
      calls: [],
      errors: [],
    });
  });

  test("all calls, in order, with text around them", () => {
    const turn = parseAssistantTurn(`<think>x</think>First ${call("a")} then ${call("b")}`);
    expect(turn.calls).toEqual([
      { name: "a", arguments: { query: "q" } },
      { name: "b", arguments: { query: "q" } },
    ]);
    expect(turn.text).toBe("First  then");
    expect(turn.errors).toEqual([]);
  });

  test("arguments as a JSON string, absent or null", () => {
    const body = (rest: string): unknown => parseAssistantTurn(call("", `{"name": "a"${rest}}`)).calls[0]?.arguments;
    expect(body(`, "arguments": "{\\"query\\": \\"q\\"}"`)).toEqual({ query: "q" });
    expect(body("")).toEqual({});
    expect(body(`, "arguments": null`)).toEqual({});
  });

  test("canonical turns come back whole", () => {
    fc.assert(
      fc.property(sampledTurn, ({ text, message }) => {
        const turn = parseAssistantTurn(text);
        expect(turn.errors).toEqual([]);
        expect(turn.calls).toEqual(
          message.toolCalls?.map(({ name, arguments: json }) => ({ name, arguments: JSON.parse(String(json)) })),
        );
        expect(turn.thinking).toBe(message.reasoningContent?.trim());
        expect(turn.text).toBe(message.content.trim());
      }),
    );
  });
});

describe("thinking", () => {
  test("calls inside it do not count", () => {
    expect(names(`<think>${call("a")}</think>${call("b")}`)).toEqual(["b"]);
  });

  test("unclosed, everything is thinking", () => {
    expect(parseAssistantTurn(`<think>maybe ${call("a")}`)).toEqual({
      thinking: `maybe ${call("a")}`,
      text: "",
      calls: [],
      errors: [],
    });
  });

  test("begun in the prompt, it ends at the first </think>", () => {
    expect(parseAssistantTurn(`Look. ${call("a")} <tool_call>{</think>42`)).toMatchObject({
      text: "42",
      calls: [],
      errors: [],
    });
  });

  test("several blocks: the answer comes after the last", () => {
    expect(parseAssistantTurn(`<think>x</think>draft ${call("a")}<think>y</think>final`)).toMatchObject({
      thinking: "x\ny",
      text: "final",
      calls: [{ name: "a" }],
    });
  });

  test("its tags inside a call's arguments are text", () => {
    const turn = parseAssistantTurn(call("", `{"name": "a", "arguments": {"query": "</think><think>"}}`));
    expect(turn.calls).toEqual([{ name: "a", arguments: { query: "</think><think>" } }]);
  });
});

describe("malformed blocks are errors to read, not answers", () => {
  test.each([
    ["no JSON", call("", "search for towns"), "is not valid JSON"],
    ["cut JSON", call("", `{"name": "a", "arguments": {`), "is not valid JSON"],
    ["an array", call("", "[]"), "is an array"],
    ["null", call("", "null"), "is null"],
    ["no name", call("", `{"arguments": {}}`), `has no "name"`],
    ["a name that is not text", call("", `{"name": 3}`), `has no "name"`],
    ["a list as arguments", call("", `{"name": "a", "arguments": [1]}`), `"arguments" is an array`],
    ["a number in a string", call("", `{"name": "a", "arguments": "3"}`), `"arguments" is a number`],
    ["broken string arguments", call("", `{"name": "a", "arguments": "{x"}`), "a string that is not valid JSON"],
    ["unclosed", `<tool_call>{"name": "a", "arguments": {}}`, "is not closed"],
    ["closed only", `{"name": "a"}</tool_call>`, "without <tool_call>"],
  ])("%s", (_, text, message) => {
    const turn = parseAssistantTurn(`<think>x</think>${text}`);
    expect(turn.calls).toEqual([]);
    expect(turn.errors).toHaveLength(1);
    expect(turn.errors[0]).toContain(message);
    expect(turn.errors[0]).toContain(`Expected <tool_call>{"name"`);
    expect(turn.errors[0]).not.toContain("\n");
  });

  test("one bad block does not hide the good ones", () => {
    const turn = parseAssistantTurn(`${call("a")}${call("", "{")}${call("b")}`);
    expect(turn.calls.map(({ name }) => name)).toEqual(["a", "b"]);
    expect(turn.errors).toEqual([expect.stringContaining("Tool call 2")]);
  });

  test("an unclosed block does not swallow the next one", () => {
    const turn = parseAssistantTurn(`<tool_call>\n{"name": "a"\n${call("b")}`);
    expect(turn.calls.map(({ name }) => name)).toEqual(["b"]);
    expect(turn.errors).toEqual([expect.stringContaining("is not closed")]);
  });
});

test("any text is read without an exception, and marks never reach the answer", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "<think>",
      "</think>",
      "<tool_call>",
      "</tool_call>",
      `{"name": "a"}`,
      `{"name": "__proto__"`,
      "{",
      '"',
    ),
    fc.string({ unit: "binary", maxLength: 8 }),
    fc.json(),
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join("")),
      (text) => {
        const turn = parseAssistantTurn(text);
        expect(turn.text).not.toMatch(/<\/?(think|tool_call)>/);
      },
    ),
    { numRuns: 1000 },
  );
});

test("deep nesting is an error, not a crash", () => {
  const deep = `{"name": "a", "arguments": ${"[".repeat(200_000)}`;
  expect(parseAssistantTurn(call("", deep)).errors).toHaveLength(1);
});
