// A run that is recorded and one that is answered from the recording: equal, or a clear difference.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type SearchBackend, WideSeekError } from "@wideseek/spec";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { searchTools } from "../toolset.ts";
import { RecordingBackend, ReplayBackend } from "./recording.ts";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "wideseek-recording-"));
  file = path.join(directory, "run.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A web that never says the same twice, and sometimes fails. */
function moody(): SearchBackend & { numCalls: number } {
  const backend = {
    numCalls: 0,
    search: async (query: string) => {
      backend.numCalls += 1;
      if (backend.numCalls % 3 === 0) throw new WideSeekError("WS_IO", `engine down (${backend.numCalls})`);
      return [{ url: `https://a.example/${query}`, title: "T", contents: `${query} ${backend.numCalls}` }];
    },
    access: async (url: string) => {
      backend.numCalls += 1;
      if (backend.numCalls % 3 === 0) throw new WideSeekError("WS_IO", `page down (${backend.numCalls})`);
      return url.endsWith("none") ? null : `${url} 河\n${backend.numCalls}`;
    },
    metrics: () => ({ calls: backend.numCalls }),
    [Symbol.asyncDispose]: async () => {},
  };
  return backend;
}

type Call =
  | { name: "search"; arguments: { query: string; count: number } }
  | { name: "access"; arguments: { url: string } };
const call = fc.oneof(
  fc
    .record({ query: fc.constantFrom("a", "b", "c"), count: fc.integer({ min: 1, max: 2 }) })
    .map((value): Call => ({ name: "search", arguments: value })),
  fc
    .constantFrom("https://x.example/", "https://y.example/", "https://z.example/none")
    .map((url): Call => ({ name: "access", arguments: { url } })),
);
async function run(backend: SearchBackend, calls: readonly Call[]): Promise<string[]> {
  const tools = searchTools({ backend });
  const texts: string[] = [];
  for (const each of calls) texts.push((await tools.run(each, { role: "single", language: "en" })).text);
  return texts;
}

test("a second run reads exactly what the first one read, failures included", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 20 }), async (calls) => {
      rmSync(file, { force: true });
      const recorded = await (async () => {
        await using backend = RecordingBackend.open(file, moody());
        return await run(backend, calls);
      })();
      await using replay = ReplayBackend.open(file);
      expect(await run(replay, calls)).toEqual(recorded);
      expect(replay.metrics()).toEqual({ replayed_lookups: calls.length, missing_lookups: 0 });
    }),
    { numRuns: 50 },
  );
});

test("an answer holds for the whole recording; a recording that was interrupted goes on", async () => {
  const web = moody();
  {
    await using backend = RecordingBackend.open(file, web);
    const first = await backend.search("a", 1);
    expect(await backend.search("a", 1)).toEqual(first);
    expect(web.numCalls).toBe(1);
    expect(backend.metrics()).toMatchObject({ calls: 1, recorded_lookups: 1, reused_lookups: 1 });
  }
  // Killed in the middle of a line.
  appendFileSync(file, '{"url":"https://x.exa');
  {
    await using backend = RecordingBackend.open(file, web);
    await backend.search("a", 1);
    expect(web.numCalls).toBe(1);
    await backend.access("https://x.example/");
  }
  await using replay = ReplayBackend.open(file);
  expect(await replay.access("https://x.example/")).toBe("https://x.example/ 河\n2");
});

test("two that ask at the same time get the answer that is written", async () => {
  await using backend = RecordingBackend.open(file, moody());
  const [first, second] = await Promise.all([backend.search("a", 1), backend.search("a", 1)]);
  expect(second).toEqual(first);
});

test("an abort is not recorded, the deadline of the tool is", async () => {
  const hangs: SearchBackend = {
    search: (_, __, signal) =>
      new Promise((___, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
    access: async () => null,
    [Symbol.asyncDispose]: async () => {},
  };
  await using backend = RecordingBackend.open(file, hangs);
  for (const reason of [new Error("run stopped"), new WideSeekError("WS_TIMEOUT", "no answer within 60 seconds")]) {
    const controller = new AbortController();
    const pending = backend.search("a", 1, controller.signal);
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
  }
  expect(readFileSync(file, "utf8").split("\n").slice(1)).toEqual([
    '{"query":"a","count":1,"failure":"no answer within 60 seconds"}',
    "",
  ]);
});

test("what the recording does not have is said and counted", async () => {
  await RecordingBackend.open(file, moody())[Symbol.asyncDispose]();
  await using replay = ReplayBackend.open(file);
  await expect(replay.search("new", 3)).rejects.toMatchObject({
    code: "WS_INVALID_STATE",
    message: /not in the recording/,
  });
  expect(replay.metrics()).toEqual({ replayed_lookups: 0, missing_lookups: 1 });
});

describe("files that are no recordings", () => {
  test.each([
    ["an empty file", "", "WS_CORRUPT_FILE", /:1: the recording is empty/],
    ["something else", '{"a":1}\n', "WS_CORRUPT_FILE", /:1: not a recording of version 1/],
    ["a newer version", '{"format":"wideseek-recording","version":2}\n', "WS_CORRUPT_FILE", /:1: not a recording/],
    ["a broken line", '{"format":"wideseek-recording","version":1}\n{"url":\n', "WS_CORRUPT_FILE", /:2: not an entry/],
  ])("%s", (_, text, code, message) => {
    writeFileSync(file, text);
    expect(() => ReplayBackend.open(file)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
    if (text !== "") expect(() => RecordingBackend.open(file, moody())).toThrow(expect.objectContaining({ code }));
    expect(readFileSync(file, "utf8").startsWith(text)).toBe(true);
  });

  test("no file", () => {
    expect(() => ReplayBackend.open(file)).toThrow(expect.objectContaining({ code: "WS_IO" }));
  });
});
