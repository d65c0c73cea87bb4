// Which replies are kept, under which key, and what is never kept.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { DiskCache } from "@wideseek/cache";
import type { ChatRequest } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CachedChatModel } from "./cached-chat-model.ts";
import { openaiChatModel } from "./openai-chat-model.ts";
import { ScriptedChatModel, ScriptedServer } from "./testing/index.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "wideseek-cache-"));
  file = path.join(folder, "sub", "replies.sqlite");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const openCache = (): DiskCache => DiskCache.open(file, { contents: "replies", maxBytes: 2 ** 24 });
const ask = (content: string, more: Partial<ChatRequest> = {}): ChatRequest => ({
  messages: [{ role: "user", content }],
  ...more,
});
const numbered = (): ScriptedChatModel => new ScriptedChatModel(({ index }) => `reply ${index}`);

describe("the cached model", () => {
  test("answers the same request from disk, also for the next process", async () => {
    const script = numbered();
    {
      using cache = openCache();
      const model = new CachedChatModel({ model: script, cache });
      expect((await model.chat(ask("a"))).text).toBe("reply 0");
      expect((await model.chat(ask("a"))).text).toBe("reply 0");
      expect(model.usage).toMatchObject({ numCalls: 1, numCacheHits: 1 });
    }
    using cache = openCache();
    const model = new CachedChatModel({ model: script, cache });
    expect((await model.chat(ask("a"))).text).toBe("reply 0");
    expect(script.calls).toHaveLength(1);
  });

  test("everything that can change a reply is in the key", async () => {
    using cache = openCache();
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
  });

  test("a draw without a seed is a new draw every time", async () => {
    using cache = openCache();
    const model = new CachedChatModel({ model: numbered(), cache });
    const request = ask("a", { temperature: 1 });
    expect((await model.chat(request)).text).not.toBe((await model.chat(request)).text);
  });

  test("failures are not kept, nor are replies that the caller cannot use", async () => {
    using cache = openCache();
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

  test("what is no reply counts as missing", async () => {
    using cache = openCache();
    const put = cache.put.bind(cache);
    cache.put = (key) => put(key, { text: "half a reply" });
    const model = new CachedChatModel({ model: numbered(), cache });
    await model.chat(ask("a"));
    expect((await model.chat(ask("a"))).text).toBe("reply 1");
  });

  test("the API key is nowhere in the cache's files", async () => {
    const key = "sk-secret-0123456789abcdef";
    await using server = await ScriptedServer.start(() => `your key is ${key}`);
    const options = { baseUrl: server.baseUrl, model: "m", apiKeyEnv: "K" };
    await using api = openaiChatModel(options, { environment: { K: key } });
    using cache = openCache();
    await new CachedChatModel({ model: api, cache, identity: options }).chat(ask("tell me"));
    for (const name of await readdir(path.dirname(file))) {
      expect((await readFile(path.join(path.dirname(file), name))).includes(key)).toBe(false);
    }
  });
});
