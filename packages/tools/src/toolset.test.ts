import { getEventListeners } from "node:events";
import type { SearchBackend, SearchHit, ToolResult } from "@wideseek/spec";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { ToolOptionsInput } from "./options.ts";
import { searchTools } from "./toolset.ts";

const hit = (url: string, contents: string): SearchHit => ({ url, title: "", contents });

function backend(overrides: Partial<SearchBackend> = {}): SearchBackend {
  return {
    search: async (query, count) => Array.from({ length: count }, (_, i) => hit(`u/${i}`, `${query} ${i}`)),
    access: async (url) => (url === "u/none" ? null : `page of ${url}`),
    [Symbol.asyncDispose]: async () => {},
    ...overrides,
  };
}

function run(
  name: string,
  args: unknown,
  {
    role = "subagent",
    language = "en",
    options = {},
    signal,
    from = backend(),
  }: {
    role?: "subagent" | "single";
    language?: "en" | "zh";
    options?: ToolOptionsInput;
    signal?: AbortSignal;
    from?: SearchBackend;
  } = {},
): Promise<ToolResult> {
  return searchTools({ backend: from, options }).run({ name, arguments: args }, { role, language, signal });
}

afterEach(() => {
  vi.useRealTimers();
});

describe("published formats", () => {
  test("search of a subagent", async () => {
    expect(
      await run("search", { queries: [{ query: "a", count: 2 }, { query: "b" }] }, { options: { defaultCount: 1 } }),
    ).toEqual({
      text: "# Search query:\na\n# Result:\n[Doc 1](u/0):\na 0\n\n[Doc 2](u/1):\na 1\n\n# Search query:\nb\n# Result:\n[Doc 1](u/0):\nb 0",
      ok: true,
      numSearches: 2,
      numAccesses: 0,
      malformed: false,
    });
  });

  test("flat calls of a single agent, default count 3", async () => {
    const found = await run("search", { query: "a" }, { role: "single" });
    expect(found.text.match(/\[Doc \d\]/g)).toEqual(["[Doc 1]", "[Doc 2]", "[Doc 3]"]);
    const page = await run("access", { url: "u/1", info_to_extract: "x" }, { role: "single" });
    expect(page).toMatchObject({ text: "# Access URL:\nu/1\n# Result:\npage of u/1", numAccesses: 1, numSearches: 0 });
  });

  test("nothing found, unknown page, Chinese labels", async () => {
    const from = backend({ search: async () => [], access: async () => " \n" });
    expect((await run("search", { queries: [{ query: "a" }] }, { from })).text).toMatch(
      /No search results are found\.$/,
    );
    expect((await run("access", { urls: [{ url: "u" }] }, { from })).text).toMatch(
      /No More Information is Found for this URL\.$/,
    );
    expect((await run("access", { urls: [{ url: "u/none" }] })).ok).toBe(true);
    const zh = await run("search", { queries: [{ query: "北京" }] }, { language: "zh" });
    expect(zh.text).toMatch(/^# 搜索查询：\n北京\n# 结果：\n\[Doc 1\]/);
  });

  test.each<[string, unknown, string]>([
    ["search", undefined, "hits"],
    ["search", "hits", "hits"],
    ["search", [null], "hits"],
    ["search", [{ url: 3, contents: "x" }], "hits"],
    ["access", 7, "a page"],
    ["access", { contents: "x" }, "a page"],
  ])("%s that gives %j is a failure in words", async (name, given, expected) => {
    const from = backend({ search: async () => given as SearchHit[], access: async () => given as string });
    const result = await run(name, { queries: [{ query: "a" }], urls: [{ url: "u" }] }, { from });
    expect(result).toMatchObject({
      ok: false,
      malformed: false,
      failures: [`${name}: the answer was something else than ${expected}`],
    });
  });

  test("hits show 5,000 and pages 25,000 characters, no character is split", async () => {
    const from = backend({
      search: async () => [hit("u", `${"x".repeat(4999)}😀y`)],
      access: async () => "z".repeat(30_000),
    });
    const found = await run("search", { queries: [{ query: "a" }] }, { from });
    expect(found.text).toBe(`# Search query:\na\n# Result:\n[Doc 1](u):\n${"x".repeat(4999)}`);
    const page = await run("access", { urls: [{ url: "u" }] }, { from });
    expect(page.text.match(/z+/)?.[0].length).toBe(25_000);
  });
});

describe("wrong calls are answered so that the model can learn", () => {
  test.each([
    ["no arguments", "search", undefined, /queries|object/],
    ["a bare string", "search", "alps", /object/],
    ["an empty list", "search", { queries: [] }, /queries: .*\nA correct call: \{"name":"search"/],
    ["flat form of the other role", "search", { query: "a" }, /queries: /],
    ["a blank query", "search", { queries: [{ query: " " }] }, /queries\[0\]\.query: /],
    ["count 0", "search", { queries: [{ query: "a", count: 0 }] }, /queries\[0\]\.count: .*>=1/],
    ["count 10", "search", { queries: [{ query: "a", count: 10 }] }, /queries\[0\]\.count: .*<=9/],
    ["count as text", "search", { queries: [{ query: "a", count: "3" }] }, /queries\[0\]\.count: /],
    ["a URL as text", "access", { urls: ["u"] }, /urls\[0\]: .*object.*\nA correct call: \{"name":"access"/],
    ["an unknown tool", "browse", {}, /no tool "browse"\. Your tools: search, access/],
  ])("%s", async (_, name, args, message) => {
    const result = await run(name, args);
    expect(result).toMatchObject({ ok: false, malformed: true, numSearches: 0, numAccesses: 0 });
    expect(result.text).toMatch(/^# Error in tool call:\n/);
    expect(result.text).toMatch(message);
  });

  test("good items run although others are wrong; extra items are dropped and named", async () => {
    const mixed = await run("search", { queries: [{ query: 3 }, { query: "a", count: 1 }] });
    expect(mixed).toMatchObject({ ok: false, malformed: true, numSearches: 1 });
    expect(mixed.text).toMatch(/^# Search query:\na\n[\s\S]*# Error in tool call:\nqueries\[0\]\.query: /);
    const many = await run("access", { urls: Array.from({ length: 7 }, (_, i) => ({ url: `u/${i}` })) });
    expect(many).toMatchObject({ ok: true, numAccesses: 5 });
    expect(many.text).toMatch(/page of u\/4\n\nOnly the first 5 items of a call are run; 2 more were left out\./);
    expect(many.text).not.toContain("page of u/5");
  });

  test("in Chinese", async () => {
    const result = await run("search", { queries: [{ query: "a", count: 99 }] }, { language: "zh" });
    expect(result.text).toMatch(/^# 工具调用错误：\nqueries\[0\]\.count: 数值过大/);
  });

  test("no call whatsoever makes it reject", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), fc.anything(), async (name, args) => {
        for (const role of ["subagent", "single"] as const) {
          for (const tool of [name, "search", "access"]) {
            expect(typeof (await run(tool, args, { role })).text).toBe("string");
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe("backend trouble is text", () => {
  test("one dead lookup leaves the others", async () => {
    const from = backend({
      access: async (url) => {
        if (url === "u/1") throw new Error("server says 500");
        return "fine";
      },
    });
    const result = await run("access", { urls: [{ url: "u/0" }, { url: "u/1" }] }, { from });
    expect(result).toMatchObject({ ok: false, malformed: false, numAccesses: 2 });
    expect(result.text).toBe(
      "# Access URL:\nu/0\n# Result:\nfine\n\n# Access URL:\nu/1\n# Result:\nTool execution failed: server says 500",
    );
  });

  test("a backend that ignores its signal is given up at the timeout", async () => {
    vi.useFakeTimers();
    let seen: AbortSignal | undefined;
    const from = backend({
      search: (_query, _count, signal) => {
        seen = signal;
        return new Promise(() => {});
      },
    });
    const pending = run("search", { queries: [{ query: "a" }] }, { from, options: { timeoutSeconds: 7 } });
    await vi.advanceTimersByTimeAsync(7000);
    expect((await pending).text).toMatch(/Tool execution failed: no answer within 7 seconds/);
    expect(seen?.aborted).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("abort rejects with its reason and leaves no timer", async () => {
    vi.useFakeTimers();
    const controller = new AbortController();
    const from = backend({ search: () => new Promise(() => {}) });
    const pending = run("search", { queries: [{ query: "a" }, { query: "b" }] }, { from, signal: controller.signal });
    controller.abort(new Error("user left"));
    await expect(pending).rejects.toThrow("user left");
    expect(vi.getTimerCount()).toBe(0);
    await expect(run("search", {}, { signal: AbortSignal.abort(new Error("early")) })).rejects.toThrow("early");
  });

  test("items of one call run at the same time", async () => {
    let release = (): void => {};
    const allStarted = new Promise<void>((resolve) => {
      release = resolve;
    });
    let numStarted = 0;
    const from = backend({
      access: async (url) => {
        numStarted += 1;
        if (numStarted === 3) release();
        await allStarted;
        return url;
      },
    });
    const result = await run("access", { urls: [{ url: "a" }, { url: "b" }, { url: "c" }] }, { from });
    expect(result.numAccesses).toBe(3);
  });

  test("a finished call leaves nothing on the caller's signal", async () => {
    const { signal } = new AbortController();
    await run("search", { queries: [{ query: "a" }, { query: "b" }] }, { signal });
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});

describe("definitions and options", () => {
  test("shapes per role", () => {
    const tools = searchTools({ backend: backend() });
    for (const language of ["en", "zh"] as const) {
      const [search, access] = tools.definitions("subagent", language);
      expect(search?.function.parameters).toMatchObject({
        properties: { queries: { type: "array" } },
        required: ["queries"],
      });
      expect(access?.function.parameters).toMatchObject({
        properties: { urls: { type: "array" } },
        required: ["urls"],
      });
      const single = tools.definitions("single", language);
      expect(single.map((tool) => tool.function.name)).toEqual(["search", "access"]);
      expect(single[0]?.function.parameters).toMatchObject({ required: ["query"] });
    }
  });

  test("compact definitions are a fraction of the full ones", () => {
    const length = (compactDefinitions: boolean): number =>
      JSON.stringify(searchTools({ backend: backend(), options: { compactDefinitions } }).definitions("subagent", "en"))
        .length;
    expect(length(true)).toBeLessThan(length(false) / 3);
  });

  test.each([
    [{ maxCount: 0 }, /maxCount/],
    [{ defaultCount: 5, maxCount: 4 }, /defaultCount: must not pass maxCount/],
    [{ hitChars: 5 } as object, /hitChars/],
    [{ timeoutSeconds: -1 }, /timeoutSeconds/],
  ])("impossible options %j", (options, message) => {
    expect(() => searchTools({ backend: backend(), options })).toThrow(
      expect.objectContaining({ code: "WS_INVALID_ARGUMENT", message: expect.stringMatching(message) }),
    );
  });
});
