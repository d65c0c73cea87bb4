// The client against a real server on loopback: formats, stop texts, every way a server can fail, and the key.
import { inspect } from "node:util";
import type { ChatRequest, ClientTiming } from "@wideseek/spec";
import { afterEach, describe, expect, test } from "vitest";
import { type ChatServerParts, type OpenAiChatModel, openaiChatModel } from "./openai-chat-model.ts";
import type { ChatServerOptionsInput } from "./options.ts";
import { ScriptedServer, type ScriptedServerOptions } from "./testing/index.ts";

const cleanups: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of cleanups.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

class TestTiming implements ClientTiming {
  time = 0;
  readonly sleeps: number[] = [];
  now(): number {
    return this.time;
  }
  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.sleeps.push(milliseconds);
    this.time += milliseconds;
  }
  random(): number {
    return 1;
  }
}

async function start(
  script: ScriptedServerOptions | ScriptedServerOptions["script"],
  options: Partial<ChatServerOptionsInput> = {},
  parts: ChatServerParts = {},
): Promise<{ server: ScriptedServer; model: OpenAiChatModel; timing: TestTiming }> {
  const server = await ScriptedServer.start(script);
  const timing = new TestTiming();
  const model = openaiChatModel(
    { baseUrl: server.baseUrl, model: "judge", ...options },
    { timing, environment: {}, ...parts },
  );
  cleanups.push(server, model);
  return { server, model, timing };
}

const ask = (content: string, more: Partial<ChatRequest> = {}): ChatRequest => ({
  messages: [{ role: "user", content }],
  ...more,
});
const schema = { name: "verdict", schema: { type: "object" } };

describe("requests and replies", () => {
  test("a chat is greedy unless told otherwise and carries what was asked", async () => {
    const { server, model } = await start(["hello", "again"]);
    const reply = await model.chat(ask("hi"));
    expect(reply).toMatchObject({ text: "hello", thinking: "", toolCalls: [], finishReason: "stop" });
    expect(reply.numPromptTokens).toBeGreaterThan(0);
    await model.chat(ask("hi", { temperature: 0.6, topP: 0.95, maxTokens: 7, seed: 2n ** 64n - 1n }));
    expect(server.requests[0]?.body).toEqual({
      model: "judge",
      messages: [{ role: "user", content: "hi" }],
      temperature: 0,
    });
    const { seed, ...second } = server.requests[1]?.body ?? {};
    expect(second).toMatchObject({ temperature: 0.6, top_p: 0.95, max_tokens: 7 });
    expect(seed).toBeLessThan(2 ** 31);
    expect(model.usage).toMatchObject({ numCalls: 2, numFailedCalls: 0, numRetries: 0 });
  });

  test("a turn that has begun goes on, with its thinking in the text", async () => {
    const { server, model } = await start(["so</think> <search>x</search> more"]);
    const begun = { role: "assistant", content: "<think>well, " } as const;
    const messages = [{ role: "user", content: "q" } as const, begun];
    const reply = await model.chat({ messages, continueLast: true, stop: ["</search>"] });
    expect(reply).toMatchObject({ text: "so</think> <search>x</search>", thinking: "" });
    expect(server.requests[0]?.body).toMatchObject({
      messages: [{ role: "user" }, begun],
      add_generation_prompt: false,
      continue_final_message: true,
    });
  });

  test("extra fields are added and null takes one out", async () => {
    const extraBody = { chat_template_kwargs: { enable_thinking: false }, temperature: null };
    const { server, model } = await start(["a"], { extraBody, maxTokens: 9 });
    await model.chat(ask("hi"));
    expect(server.requests[0]?.body).toMatchObject({ chat_template_kwargs: { enable_thinking: false }, max_tokens: 9 });
    expect(server.requests[0]?.body).not.toHaveProperty("temperature");
  });

  test("tool calls go both ways, and those that cannot be read are told", async () => {
    const calls = [
      { name: "search", arguments: { query: "x" } },
      { name: "access", arguments: "{broken" },
      { name: "access", arguments: "[1]" },
    ];
    const { server, model } = await start([{ toolCalls: calls }, "done"]);
    const tools = [{ type: "function" as const, function: { name: "search", description: "", parameters: {} } }];
    const first = await model.chat(ask("hi", { tools }));
    expect(first.toolCalls).toEqual([{ id: "call_0_0", name: "search", arguments: { query: "x" } }]);
    expect(first.callErrors).toEqual([
      "Tool call 2 (access): the arguments are not valid JSON.",
      "Tool call 3 (access): the arguments are not a JSON object.",
    ]);
    const messages = [
      { role: "user" as const, content: "hi" },
      { role: "assistant" as const, content: "", toolCalls: first.toolCalls },
      { role: "tool" as const, content: "found", toolCallId: "call_0_0" },
    ];
    await model.chat({ messages, tools });
    expect(server.requests[1]?.messages).toEqual([
      { role: "user", content: "hi" },
      {
        role: "assistant",
        content: "",
        tool_calls: [{ id: "call_0_0", type: "function", function: { name: "search", arguments: '{"query":"x"}' } }],
      },
      { role: "tool", content: "found", tool_call_id: "call_0_0" },
    ]);
  });

  test.each([
    [{ reasoning: "hm", text: "yes" }, "hm", "yes"],
    [{ text: "<think>\nhm\n</think>\n\nyes" }, "hm", "yes"],
    [{ text: "hm</think>yes" }, "hm", "yes"],
    [{ text: "<think>never ends" }, "never ends", ""],
    [{ text: "tags like <think> in the middle" }, "", "tags like <think> in the middle"],
  ])("thinking is kept apart: %j", async (reply, thinking, text) => {
    const { model } = await start([reply]);
    expect(await model.chat(ask("hi"))).toMatchObject({ thinking, text });
  });

  test("a completion keeps thinking in its text and says when it was cut", async () => {
    const { server, model } = await start([{ text: "<think>a</think>b", finishReason: "length" }]);
    const reply = await model.complete("Once", { maxTokens: 3 });
    expect(reply).toMatchObject({ text: "<think>a</think>b", thinking: "", finishReason: "length" });
    expect(server.requests[0]).toMatchObject({ path: "/v1/completions", body: { prompt: "Once", max_tokens: 3 } });
  });
});

describe("stop texts", () => {
  const stop = ["</search>", "</answer>"];
  test.each(["vllm", "sglang", "no"] as const)(
    "come back at the end of the reply (server reports: %s)",
    async (reportsStop) => {
      const { model } = await start({ script: ["so <search>q</search> and more", "<answer>no end"], reportsStop });
      expect((await model.complete("p", { stop })).text).toBe("so <search>q</search>");
      // Ended by itself: nothing was cut off, but only a server that reports can tell.
      const { text } = await model.complete("p", { stop });
      expect(text).toBe(reportsStop === "no" ? "<answer>no end</answer>" : "<answer>no end");
    },
  );

  test("one that a server left in is the end; a cut reply gets none", async () => {
    const script = [{ text: "<search>q", finishReason: "length" as const }];
    const { model } = await start({ script, reportsStop: "no" });
    expect((await model.complete("p", { stop })).text).toBe("<search>q");
  });

  test("a tag that the prompt left open counts at its very end only", async () => {
    const { model } = await start(["thoughts</think>", "thoughts"]);
    expect((await model.complete("Assistant:\n<think>\n", { stop: ["</think>"] })).text).toBe("thoughts</think>");
    expect((await model.complete("Use <think> tags.", { stop: ["</think>"] })).text).toBe("thoughts");
  });
});

describe("JSON schema", () => {
  test("is sent, and a server that refuses it is asked without it from then on", async () => {
    const { server, model } = await start(({ body }) =>
      "response_format" in body ? { fault: "status", status: 400, body: "unknown field response_format" } : '{"a":1}',
    );
    expect((await model.chat(ask("one", { jsonSchema: schema }))).text).toBe('{"a":1}');
    await model.chat(ask("two", { jsonSchema: schema }));
    expect(server.requests.map(({ body }) => "response_format" in body)).toEqual([true, false, false]);
    expect(server.requests[0]?.body.response_format).toEqual({
      type: "json_schema",
      json_schema: { name: "verdict", schema: { type: "object" }, strict: true },
    });
  });

  test("a refusal for another reason is not taken for a missing feature", async () => {
    let long = true;
    const { server, model } = await start(() =>
      long ? { fault: "status", status: 400, body: "maximum context length is 8192 tokens" } : "{}",
    );
    await expect(model.chat(ask("one", { jsonSchema: schema }))).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      details: { reason: "context" },
    });
    long = false;
    await model.chat(ask("two", { jsonSchema: schema }));
    expect("response_format" in (server.requests.at(-1)?.body ?? {})).toBe(true);
  });
});

describe("failures", () => {
  test.each([
    ["garbage", { fault: "garbage" }],
    ["garbage that is JSON", { fault: "garbage", body: '{"choices": []}' }],
    ["a cut connection", { fault: "cut" }],
    ["a reset before any byte", { fault: "cut", beforeHeaders: true }],
    ["429", { fault: "status", status: 429 }],
    ["500", { fault: "status", status: 500 }],
    ["503", { fault: "status", status: 503 }],
  ] as const)("%s passes after a retry", async (_, fault) => {
    const { model, server } = await start([fault, fault, "yes"]);
    expect((await model.chat(ask("hi"))).text).toBe("yes");
    expect(server.numRequests).toBe(3);
    expect(model.usage.numRetries).toBe(2);
  });

  test("a hang ends at the attempt's time limit and is tried again", async () => {
    // Long enough for the second attempt on a busy machine.
    const { model } = await start([{ fault: "hang" }, "yes"], { attemptSeconds: 1 });
    expect((await model.chat(ask("hi"))).text).toBe("yes");
  });

  test("waits double with jitter, and Retry-After is obeyed", async () => {
    const busy = { fault: "status", status: 429 } as const;
    const { model, timing } = await start([busy, busy, { ...busy, headers: { "retry-after": "7" } }, "yes"]);
    await model.chat(ask("hi"));
    expect(timing.sleeps).toEqual([500, 1000, 7500]);
  });

  test("attempts are bounded, then the last failure is said", async () => {
    const { model, server } = await start(() => ({ fault: "status", status: 500, body: "out of memory" }), {
      maxAttempts: 3,
    });
    await expect(model.chat(ask("hi"))).rejects.toMatchObject({
      code: "WS_IO",
      message: expect.stringMatching(/judge.*HTTP status 500: out of memory \(attempt 3 of 3\)/),
    });
    expect(server.numRequests).toBe(3);
    expect(model.usage).toMatchObject({ numCalls: 1, numFailedCalls: 1 });
  });

  test.each([401, 403, 404])("status %i is nobody's hiccup", async (status) => {
    const { model, server } = await start(() => ({ fault: "status", status }));
    await expect(model.chat(ask("hi"))).rejects.toMatchObject({ code: "WS_IO" });
    expect(server.numRequests).toBe(1);
  });

  test("abort and close say why, also while waiting for a turn", async () => {
    const { model } = await start(() => ({ fault: "hang" }), { maxConcurrent: 1 });
    const controller = new AbortController();
    const first = model.chat(ask("one"));
    const second = model.chat(ask("two", { signal: controller.signal }));
    const reason = new Error("enough");
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    await model.close();
    await expect(first).rejects.toMatchObject({ code: "WS_CLOSED" });
    await expect(model.chat(ask("three"))).rejects.toMatchObject({ code: "WS_CLOSED" });
  });

  test("no more than maxConcurrent requests are on the wire", async () => {
    const three = Promise.withResolvers<void>();
    const script: ScriptedServerOptions["script"] = async ({ index }) => {
      if (index === 2) three.resolve();
      await three.promise;
      return "yes";
    };
    const { model, server } = await start(script, { maxConcurrent: 3 });
    await Promise.all(Array.from({ length: 50 }, (_, i) => model.chat(ask(`${i}`))));
    expect(server.maxInFlight).toBe(3);
  });

  test("a dead server is left alone: others wait instead of using up their attempts, and all succeed after it is back", async () => {
    let dead = true;
    const timing = new TestTiming();
    // The clock runs while requests wait; the server is back after a minute.
    const sleep = timing.sleep.bind(timing);
    timing.sleep = async (milliseconds, signal) => {
      await sleep(milliseconds, signal);
      if (timing.time > 60_000) dead = false;
    };
    const { model, server } = await start(
      () => (dead ? { fault: "status", status: 503 } : "yes"),
      { breakerFailures: 5, breakerSeconds: 10, maxConcurrent: 8 },
      { timing },
    );
    const replies = await Promise.all(Array.from({ length: 40 }, (_, i) => model.chat(ask(`${i}`))));
    expect(replies.every(({ text }) => text === "yes")).toBe(true);
    expect(model.usage.numBreakerOpenings).toBe(1);
    // 40 successes, at most 8 + 5 failures before it opened, then a few probes.
    expect(server.numRequests).toBeLessThan(40 + 40);
  });

  test("probes of a dead server cost the request that makes them no attempts", async () => {
    const timing = new TestTiming();
    const { model, server } = await start(
      () => (timing.time < 60_000 ? { fault: "status", status: 503 } : "yes"),
      { breakerFailures: 1, breakerSeconds: 10, maxAttempts: 2 },
      { timing },
    );
    expect((await model.chat(ask("hi"))).text).toBe("yes");
    // One attempt, then a probe every ten seconds and the wait between two attempts.
    expect(server.numRequests).toBeGreaterThan(4);
    expect(server.numRequests).toBeLessThan(10);
  });

  test("a server that stays dead costs one deadline; later requests fail at once", async () => {
    const { model, server, timing } = await start(() => ({ fault: "status", status: 503 }), {
      breakerFailures: 2,
      breakerSeconds: 10,
      deadlineSeconds: 100,
      maxAttempts: 100,
    });
    await expect(model.chat(ask("one"))).rejects.toMatchObject({ code: "WS_IO" });
    timing.time += 100_000;
    const numRequests = server.numRequests;
    const outcomes = await Promise.allSettled(Array.from({ length: 500 }, (_, i) => model.chat(ask(`${i}`))));
    expect(outcomes.every(({ status }) => status === "rejected")).toBe(true);
    expect(server.numRequests - numRequests).toBeLessThan(20);
  });
});

describe("options and the key", () => {
  const key = "sk-secret-0123456789abcdef";

  test.each([
    [{ baseUrl: "ftp://x/v1" }, /baseUrl: must be an http or https URL/],
    [{ baseUrl: "http://user:pass@x/v1" }, /baseUrl: must have no user/],
    [{ model: "" }, /model/],
    [{ maxConcurrent: 0 }, /maxConcurrent/],
    [{ apiKeyEnv: key }, /apiKeyEnv: must be the NAME of an environment variable/],
    [{ apiKey: key }, /unknown key apiKey/],
    [{ apiKeyEnv: "NO_SUCH_KEY" }, /NO_SUCH_KEY is not set/],
  ])("%j is refused in one line that shows no key", (options, message) => {
    let thrown: unknown;
    try {
      openaiChatModel({ baseUrl: "http://127.0.0.1:1/v1", model: "m", ...options } as ChatServerOptionsInput, {
        environment: {},
      });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "WS_INVALID_ARGUMENT", message: expect.stringMatching(message) });
    expect(inspect(thrown, { depth: 20 })).not.toContain(key);
  });

  test("the key goes into the header and nowhere else, even when the server repeats it", async () => {
    const { server, model } = await start(
      ({ index }) =>
        index === 0
          ? { fault: "status", status: 401, body: `{"error": "Incorrect API key provided: ${key}"}` }
          : index === 1
            ? `your key is ${key}`
            : { fault: "status", status: 400, body: `bad request by ${key}` },
      { apiKeyEnv: "JUDGE_KEY" },
      { environment: { JUDGE_KEY: `${key}\n` } },
    );
    const error = await model.chat(ask("hi")).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: expect.stringMatching(/is the key in JUDGE_KEY right/) });
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain(key);
    expect((await model.chat(ask("hi"))).text).toBe("your key is [API key]");
    const refusal = await model.chat(ask("hi")).catch((thrown: unknown) => thrown);
    expect(inspect(refusal, { depth: 20, showHidden: true })).not.toContain(key);
    expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${key}`);
    expect(inspect(model, { depth: 20, showHidden: true })).not.toContain(key);
    expect(JSON.stringify(model)).not.toContain(key);
  });

  test("a key that would break the header is refused without being shown", () => {
    const bad = `${key}\r\nX-Evil: 1`;
    const make = (): unknown =>
      openaiChatModel({ baseUrl: "http://127.0.0.1:1/v1", model: "m", apiKeyEnv: "K" }, { environment: { K: bad } });
    expect(make).toThrow(/what K holds is no API key/);
    expect(make).not.toThrow(new RegExp(key));
  });
});
