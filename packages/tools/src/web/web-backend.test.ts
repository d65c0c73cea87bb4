// What is kept, shared and left out, whatever the engine and the reader.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DiskCache } from "@wideseek/cache";
import type { SearchHit } from "@wideseek/spec";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { PageReader, SearchEngine } from "./engine.ts";
import { LeakBlocklist } from "./leak-blocklist.ts";
import { LeakFilter } from "./leak-filter.ts";
import { WebBackend } from "./web-backend.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-web-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const hit = (url: string, contents = "text"): SearchHit => ({ url, title: "T", contents });

interface Fakes {
  search?: (query: string, signal?: AbortSignal) => Promise<SearchHit[]>;
  read?: (url: URL, checkAddress: (url: URL) => void) => Promise<string | null>;
  defaults?: boolean;
  cached?: boolean;
}

function open({ search, read, defaults = false, cached = true }: Fakes): { backend: LeakFilter; calls: string[] } {
  const calls: string[] = [];
  const nothing = { metrics: () => ({}), [Symbol.asyncDispose]: async () => {} };
  const engine: SearchEngine = {
    ...nothing,
    identity: "fake",
    search: async (query, _, signal) => {
      calls.push(query);
      return (await search?.(query, signal)) ?? [];
    },
  };
  const reader: PageReader = {
    ...nothing,
    identity: "fake",
    read: async (url, checkAddress) => {
      calls.push(url.href);
      return (await read?.(url, checkAddress)) ?? null;
    },
  };
  const limits = { contents: "web pages", maxBytes: 2 ** 20, maxAgeSeconds: 100 };
  const cache = cached ? DiskCache.open(path.join(directory, "web.sqlite"), limits) : undefined;
  const blocklist = new LeakBlocklist({ addresses: ["leak.example/data"], phrases: ["The  Gold Table"], defaults });
  return {
    backend: new LeakFilter(blocklist, (checkAddress) => new WebBackend({ engine, reader, cache, checkAddress })),
    calls,
  };
}

describe("the cache", () => {
  test("answers a second run", async () => {
    const fakes = { search: async () => [hit("https://a.example/")], read: async () => "A page." };
    {
      await using first = open(fakes).backend;
      await first.search("q", 2);
      await first.access("https://a.example/#part");
    }
    const { backend, calls } = open({});
    expect(await backend.search("q", 2)).toEqual([hit("https://a.example/")]);
    expect(await backend.access("https://A.example/#other")).toBe("A page.");
    expect(calls).toEqual([]);
    expect(backend.metrics()).toMatchObject({ cache_hits: 2 });
    await backend.search("q", 3);
    expect(calls).toEqual(["q"]);
    await backend[Symbol.asyncDispose]();
  });

  test.each([
    ["a failure", () => Promise.reject(new Error("down"))],
    ["no page", async () => null],
    ["an empty page", async () => " \n"],
  ])("never keeps %s", async (_, read) => {
    const { backend, calls } = open({ read });
    for (let n = 0; n < 2; n += 1) await backend.access("https://a.example/").catch(() => {});
    expect(calls).toHaveLength(2);
    await backend[Symbol.asyncDispose]();
  });

  test("never keeps an empty list of hits", async () => {
    const { backend, calls } = open({});
    for (let n = 0; n < 2; n += 1) expect(await backend.search("q", 1)).toEqual([]);
    expect(calls).toHaveLength(2);
    await backend[Symbol.asyncDispose]();
  });
});

describe("equal lookups at one moment", () => {
  test("are one, and end only when all who wait left", async () => {
    let finish: (hits: SearchHit[]) => void = () => {};
    const pending = new Promise<SearchHit[]>((resolve) => {
      finish = resolve;
    });
    let aborted = false;
    const search = (_: string, signal?: AbortSignal): Promise<SearchHit[]> => {
      signal?.addEventListener("abort", () => {
        aborted = true;
      });
      return pending;
    };
    const { backend, calls } = open({ search, cached: false });
    const leaver = new AbortController();
    const left = backend.search("q", 1, leaver.signal);
    const stayed = backend.search("q", 1);
    leaver.abort(new Error("left"));
    await expect(left).rejects.toThrow("left");
    expect(aborted).toBe(false);
    finish([hit("https://a.example/")]);
    expect(await stayed).toHaveLength(1);
    expect(calls).toHaveLength(1);

    const alone = new AbortController();
    const second = open({
      search: (_, signal) =>
        new Promise((__, reject) => signal?.addEventListener("abort", () => reject(new Error("ended")))),
      cached: false,
    });
    const gone = second.backend.search("q", 1, alone.signal);
    alone.abort(new Error("gone"));
    await expect(gone).rejects.toThrow("gone");
  });

  test("a failure reaches all of them and is forgotten", async () => {
    let numCalls = 0;
    const search = async (): Promise<SearchHit[]> => {
      numCalls += 1;
      if (numCalls === 1) throw new Error("down");
      return [hit("https://a.example/")];
    };
    const { backend } = open({ search, cached: false });
    const both = await Promise.allSettled([backend.search("q", 1), backend.search("q", 1)]);
    expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await backend.search("q", 1)).toHaveLength(1);
  });
});

describe("leaks", () => {
  test("hits are left out and counted, also those that the cache has", async () => {
    const hits = [
      hit("https://www.leak.example/data/x"),
      hit("https://ok.example/", "see the gold\ntable"),
      hit("https://leak.example/other"),
    ];
    const { backend } = open({ search: async () => hits });
    for (let n = 0; n < 2; n += 1) expect(await backend.search("q", 3)).toEqual([hits[2]]);
    expect(backend.metrics()).toMatchObject({ blocked_hits: 4, cache_hits: 1 });
    await backend[Symbol.asyncDispose]();
  });

  test("pages are refused by address, on the way to them, and by what they say", async () => {
    const { backend, calls } = open({
      cached: false,
      read: async (url, checkAddress) => {
        if (url.pathname === "/redirect") checkAddress(new URL("https://leak.example/data"));
        return "This is THE GOLD table.";
      },
    });
    for (const address of ["https://leak.example/data?x", "https://ok.example/redirect", "https://ok.example/"]) {
      await expect(backend.access(address)).rejects.toThrow(/may not be used for this task/);
    }
    expect(calls).toEqual(["https://ok.example/redirect", "https://ok.example/"]);
    expect(backend.metrics()).toMatchObject({ blocked_pages: 3 });
  });

  const blocklist = new LeakBlocklist({ addresses: [], phrases: [], defaults: true });
  test.each([
    "https://huggingface.co/datasets/ByteDance-Seed/WideSearch",
    "https://HuggingFace.co./datasets/ByteDance-Seed/WideSearch/viewer",
    "http://huggingface.co:443/datasets/x",
    "https://huggingface.co//datasets/x",
    "https://huggingface.co/%64atasets/x",
    "https://huggingface%2Eco/datasets/x",
    "https://hf-mirror.com/datasets/x",
    "https://datasets-server.huggingface.co/rows?dataset=x",
    "https://www.modelscope.cn/datasets/x",
    "https://github.com/ByteDance-Seed/WideSearch",
    "https://github.com/someone/my-widesearch-results/blob/main/a.jsonl",
    "https://raw.githubusercontent.com/ByteDance-Seed/WideSearch/main/data.jsonl",
    "https://widesearch-seed.github.io/",
    "https://arxiv.org/abs/2508.07999",
    "https://arxiv.org/pdf/2508.07999v2",
    "https://web.archive.org/web/2025/https://huggingface.co/datasets/x",
    "https://web.archive.org/web/2025/huggingface.co/datasets/x",
    "https://r.jina.ai/https://huggingface.co/datasets/x",
    "https://translate.google.com/translate?u=https%3A%2F%2Fhuggingface.co%2Fdatasets%2Fx",
    "https://huggingface-co.translate.goog/datasets/x",
    "https://hotpotqa.github.io/explorer.html",
  ])("the default list has %s", (address) => {
    expect(blocklist.blocksAddress(address)).toBe(true);
  });

  test.each([
    "https://en.wikipedia.org/wiki/List_of_lakes",
    "https://huggingface.co/blog/agents",
    "https://arxiv.org/abs/2508.07998",
    "https://github.com/nodejs/node",
    "https://nothuggingface.co/datasets/x",
    "https://en.wikipedia.org/wiki/Hugging_Face",
    "https://news.example/2025/datasets-server.html",
    "not an address",
    "%E0%A4%A",
  ])("the default list has not %s", (address) => {
    expect(blocklist.blocksAddress(address)).toBe(false);
  });

  test("sample ids of the benchmark give a page away", () => {
    expect(blocklist.blocksText('{"instance_id": "ws_en_042", "query": "..."}')).toBe(true);
    expect(blocklist.blocksText("A page about lakes; news_en_01.")).toBe(false);
  });
});
