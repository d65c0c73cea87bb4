// Differential: the official OpenAI client and ours against the same server ask the same and read the same.
import type { ChatRequest } from "@wideseek/spec";
import OpenAI from "openai";
import { afterEach, describe, expect, test } from "vitest";
import { type OpenAiChatModel, openaiChatModel } from "./openai-chat-model.ts";
import { ScriptedServer, type ServerFault, type ServerReply } from "./testing/index.ts";

const KEY = "sk-official-0123456789";
const cleanups: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of cleanups.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

async function clients(
  script: (index: number) => ServerReply | ServerFault | string,
): Promise<{ server: ScriptedServer; official: OpenAI; ours: OpenAiChatModel }> {
  // Both ask in turn, so both get the reply of their pair.
  const server = await ScriptedServer.start(({ index }) => script(Math.floor(index / 2)));
  const official = new OpenAI({ apiKey: KEY, baseURL: server.baseUrl, maxRetries: 0 });
  const ours = openaiChatModel(
    { baseUrl: server.baseUrl, model: "m", apiKeyEnv: "KEY", maxAttempts: 1 },
    { environment: { KEY } },
  );
  cleanups.push(server, ours);
  return { server, official, ours };
}

const tools: ChatRequest["tools"] = [
  {
    type: "function",
    function: {
      name: "search",
      description: "Finds.",
      parameters: { type: "object", properties: { q: { type: "string" } } },
    },
  },
];
const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"], additionalProperties: false };

describe("beside the official client", () => {
  test("a conversation with calls: the same path, header and body, the same reply", async () => {
    const call = { name: "search", arguments: { q: 'quotes " and 北京' } };
    const { server, official, ours } = await clients(() => ({
      text: "ä ",
      toolCalls: [call],
      promptTokens: 11,
      completionTokens: 5,
    }));
    const theirs = await official.chat.completions.create({
      model: "m",
      temperature: 0.5,
      top_p: 0.9,
      max_tokens: 64,
      stop: ["</x>"],
      messages: [
        { role: "system", content: "s" },
        { role: "user", content: "u" },
        {
          role: "assistant",
          content: "",
          tool_calls: [{ id: "c1", type: "function", function: { name: "search", arguments: '{"q":"x"}' } }],
        },
        { role: "tool", tool_call_id: "c1", content: "found" },
      ],
      tools: tools.map(({ type, function: { name, description, parameters } }) => ({
        type,
        function: { name, description, parameters: { ...parameters } },
      })),
      response_format: { type: "json_schema", json_schema: { name: "form", schema, strict: true } },
    });
    const reply = await ours.chat({
      temperature: 0.5,
      topP: 0.9,
      maxTokens: 64,
      stop: ["</x>"],
      messages: [
        { role: "system", content: "s" },
        { role: "user", content: "u" },
        { role: "assistant", content: "", toolCalls: [{ id: "c1", name: "search", arguments: { q: "x" } }] },
        { role: "tool", content: "found", toolCallId: "c1" },
      ],
      tools,
      jsonSchema: { name: "form", schema },
    });
    const [first, second] = server.requests;
    expect(second?.path).toBe(first?.path);
    expect(second?.body).toEqual(first?.body);
    expect(second?.headers.authorization).toBe(first?.headers.authorization);
    const message = theirs.choices[0]?.message;
    const [theirCall] = message?.tool_calls ?? [];
    expect(reply.text).toBe(message?.content);
    expect(theirCall).toMatchObject({ function: { name: "search", arguments: JSON.stringify(call.arguments) } });
    expect(reply.toolCalls).toMatchObject([{ name: "search", arguments: call.arguments }]);
    expect([reply.numPromptTokens, reply.numCompletionTokens]).toEqual([
      theirs.usage?.prompt_tokens,
      theirs.usage?.completion_tokens,
    ]);
  });

  test("a plain completion", async () => {
    const { server, official, ours } = await clients(() => ({ text: "once upon", finishReason: "length" }));
    const theirs = await official.completions.create({ model: "m", prompt: "It was", temperature: 0, max_tokens: 2 });
    const reply = await ours.complete("It was", { maxTokens: 2 });
    expect(server.requests[1]?.body).toEqual(server.requests[0]?.body);
    expect(reply).toMatchObject({ text: theirs.choices[0]?.text, finishReason: theirs.choices[0]?.finish_reason });
  });

  test("what the official client takes for an error is one for ours", async () => {
    const faults: ServerFault[] = [
      ...[400, 401, 403, 404, 422, 429, 500, 503].map((status) => ({ fault: "status", status }) as const),
      { fault: "cut", beforeHeaders: true },
      { fault: "cut" },
    ];
    const { official, ours } = await clients((index) => faults[index] as ServerFault);
    for (const fault of faults) {
      const messages = [{ role: "user" as const, content: "hi" }];
      const theirs = official.chat.completions.create({ model: "m", messages });
      await expect(theirs, JSON.stringify(fault)).rejects.toThrow();
      const refused = fault.fault === "status" && (fault.status === 400 || fault.status === 422);
      await expect(ours.chat({ messages }), JSON.stringify(fault)).rejects.toMatchObject({
        code: refused ? "WS_INVALID_ARGUMENT" : "WS_IO",
      });
    }
  });
});
