// The cache on disk: what is kept and under which key, its size, several processes at once, and what is never kept.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { ChatReply, ChatRequest } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CachedChatModel, contentKey } from "./cached-chat-model.ts";
import { openaiChatModel } from "./openai-chat-model.ts";
import { ReplyCache } from "./reply-cache.ts";
import { ScriptedChatModel, ScriptedServer } from "./testing/index.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "wideseek-cache-"));
  file = path.join(folder, "sub", "replies.sqlite");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const reply = (text: string): ChatReply => ({
  text,
  thinking: "",
  toolCalls: [],
  callErrors: [],
  finishReason: "stop",
  numPromptTokens: 1,
  numCompletionTokens: 2,
});
const ask = (content: string, more: Partial<ChatRequest> = {}): ChatRequest => ({
  messages: [{ role: "user", content }],
  ...more,
});
const numbered = (): ScriptedChatModel => new ScriptedChatModel(({ index }) => `reply ${index}`);

describe("the cached model", () => {
  test("answers the same request from disk, also for the next process", async () => {
    const script = numbered();
    {
      using cache = ReplyCache.open(file);
      const model = new CachedChatModel({ model: script, cache });
      expect((await model.chat(ask("a"))).text).toBe("reply 0");
      expect((await model.chat(ask("a"))).text).toBe("reply 0");
      expect(model.usage).toMatchObject({ numCalls: 1, numCacheHits: 1 });
    }
    using cache = ReplyCache.open(file);
    const model = new CachedChatModel({ model: script, cache });
    expect((await model.chat(ask("a"))).text).toBe("reply 0");
    expect(script.calls).toHaveLength(1);
  });

  test("everything that can change a reply is in the key", async () => {
    using cache = ReplyCache.open(file);
    const model = new CachedChatModel({ model: numbered(), cache });
    const tools = [{ type: "function" as const, function: { name: "t", description: "", parameters: {} } }];
    const requests: ChatRequest[] = [
      ask("a"),
      ask("b"),
      ask("a", { maxTokens: 5 }),
      ask("a", { stop: ["x"] }),
      ask("a", { topP: 0.5 }),
      ask("a", { tools }),
      ask("a", { jsonSchema: { name: "s", schema: { type: "object" } } }),
      ask("a", { temperature: 1, seed: 1n }),
      ask("a", { temperature: 1, seed: 2n }),
      { messages: [{ role: "system", content: "a" }] },
    ];
    const texts: string[] = [];
    for (const request of requests) texts.push((await model.chat(request)).text);
    texts.push((await model.complete("a", {})).text);
    for (const other of [
      new CachedChatModel({ model: new ScriptedChatModel(() => "other model", "other"), cache }),
      new CachedChatModel({
        model: new ScriptedChatModel(() => "other identity"),
        cache,
        identity: { thinking: false },
      }),
    ]) {
      texts.push((await other.chat(ask("a"))).text);
    }
    expect(new Set(texts).size).toBe(texts.length);
    for (const [index, request] of requests.entries()) expect((await model.chat(request)).text).toBe(texts[index]);
    expect(contentKey({ a: 1, b: { d: 1, c: 2 } })).toEqual(contentKey({ b: { c: 2, d: 1 }, a: 1 }));
  });

  test("a draw without a seed is a new draw every time", async () => {
    using cache = ReplyCache.open(file);
    const model = new CachedChatModel({ model: numbered(), cache });
    const request = ask("a", { temperature: 1 });
    expect((await model.chat(request)).text).not.toBe((await model.chat(request)).text);
  });

  test("failures are not kept, nor are replies that the caller cannot use", async () => {
    using cache = ReplyCache.open(file);
    const script = new ScriptedChatModel(({ index }) => {
      if (index === 0) throw new Error("down");
      return index === 1 ? "garbage" : "{}";
    });
    const model = new CachedChatModel({ model: script, cache });
    const request = ask("a", { isUsable: ({ text }) => text.startsWith("{") });
    await expect(model.chat(request)).rejects.toThrow("down");
    expect((await model.chat(request)).text).toBe("garbage");
    expect((await model.chat(request)).text).toBe("{}");
    expect((await model.chat(request)).text).toBe("{}");
    expect(script.calls).toHaveLength(3);
  });

  test("the API key is nowhere in the cache's files", async () => {
    const key = "sk-secret-0123456789abcdef";
    await using server = await ScriptedServer.start(() => `your key is ${key}`);
    const options = { baseUrl: server.baseUrl, model: "m", apiKeyEnv: "K" };
    await using api = openaiChatModel(options, { environment: { K: key } });
    using cache = ReplyCache.open(file);
    await new CachedChatModel({ model: api, cache, identity: options }).chat(ask("tell me"));
    for (const name of await readdir(path.dirname(file))) {
      expect((await readFile(path.join(path.dirname(file), name))).includes(key)).toBe(false);
    }
  });
});

describe("the file", () => {
  test("stays within its size and keeps what was used last", async () => {
    let now = 0;
    const maxBytes = 200_000;
    using cache = ReplyCache.open(file, { maxBytes, now: () => now });
    const key = (index: number): Uint8Array => contentKey(index);
    cache.put(key(-1), reply("kept because it is read again"));
    for (let index = 0; index < 2000; index++) {
      now += 4000;
      cache.put(key(index), reply("x".repeat(400)));
      expect(cache.get(key(-1))).toBeDefined();
    }
    expect(cache.get(key(0))).toBeUndefined();
    expect(cache.get(key(1999))).toBeDefined();
    expect((await stat(file)).size).toBeLessThan(3 * maxBytes);
    cache.put(key(3000), reply("x".repeat(maxBytes)));
    expect(cache.get(key(3000))).toBeUndefined();
    expect(cache.numSkipped).toBe(0);
  });

  test("something else is refused in words", async () => {
    const other = path.join(folder, "other.sqlite");
    await writeFile(other, "this is no database ".repeat(100));
    expect(() => ReplyCache.open(other)).toThrow(/other\.sqlite.*delete it, or name another file/);
    expect(() => ReplyCache.open(path.join(other, "x.sqlite"))).toThrow(/other\.sqlite/);
    expect(() => ReplyCache.open(file, { maxBytes: 0 })).toThrow(/maxBytes is 0/);
  });

  test("a closed cache misses instead of failing", () => {
    const cache = ReplyCache.open(file);
    cache[Symbol.dispose]();
    cache.put(contentKey(1), reply("x"));
    expect(cache.get(contentKey(1))).toBeUndefined();
  });

  test("many processes write and read at once", async () => {
    const code = `
      const { ReplyCache } = await import(${JSON.stringify(path.join(import.meta.dirname, "reply-cache.ts"))});
      const { contentKey } = await import(${JSON.stringify(path.join(import.meta.dirname, "cached-chat-model.ts"))});
      const cache = ReplyCache.open(process.argv[1]);
      for (let i = 0; i < 300; i++) {
        cache.put(contentKey(i), { text: "reply " + i, thinking: "", toolCalls: [], callErrors: [], finishReason: "stop", numPromptTokens: 0, numCompletionTokens: 0 });
        const got = cache.get(contentKey((i * 7) % 300));
        if (got !== undefined && got.text !== "reply " + ((i * 7) % 300)) throw new Error("wrong reply");
      }
      if (cache.numSkipped > 30) throw new Error(cache.numSkipped + " skipped");
      cache[Symbol.dispose]();
    `;
    const flags = ["--conditions=@wideseek/source", "--import", "tsx", "--input-type=module", "--eval", code, file];
    const codes = await Promise.all(
      [0, 1, 2].map(async () => {
        const child = spawn(process.execPath, flags, { stdio: ["ignore", "ignore", "pipe"] });
        let errors = "";
        child.stderr.on("data", (chunk) => {
          errors += chunk;
        });
        const [exitCode] = await once(child, "close");
        return exitCode === 0 ? 0 : errors;
      }),
    );
    expect(codes).toEqual([0, 0, 0]);
    using cache = ReplyCache.open(file);
    const found = Array.from({ length: 300 }, (_, index) => cache.get(contentKey(index))?.text);
    expect(found.filter((text, index) => text === `reply ${index}`).length).toBeGreaterThan(290);
  });
});
