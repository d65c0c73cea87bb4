import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SearchHit } from "@wideseek/spec";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CorpusIndex } from "./corpus-index.ts";
import { matchExpression } from "./match-expression.ts";
import { readPages } from "./pages.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wideseek-tools-"));
});
afterAll(() => rm(directory, { recursive: true }));

const page = (url: string, title: string, contents: string): SearchHit => ({ url, title, contents });
const pages = [
  page("w/a", "Alder", "The river Brint flows through Alder."),
  page("w/b", "Brint", "A long stream."),
  page("w/c", "Coasts", "Many cities lie on coasts. 北京大学在北京。"),
  page("w/d", "Same", "twin page"),
  page("w/e", "Same", "twin page"),
];

function corpusFile(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe("search", () => {
  test("ranks a title above a mention, stems, folds case, breaks ties by order", async () => {
    await using index = await CorpusIndex.fromPages(pages);
    expect((await index.search("brint", 3)).map((hit) => hit.url)).toEqual(["w/b", "w/a"]);
    await using equal = await CorpusIndex.fromPages([
      page("text", "elm ash fir", "oak"),
      page("title", "oak", "elm ash fir"),
    ]);
    expect((await equal.search("oak", 2)).map((hit) => hit.url)).toEqual(["title", "text"]);
    expect((await index.search("CITY", 3)).map((hit) => hit.url)).toEqual(["w/c"]);
    expect((await index.search("twin", 3)).map((hit) => hit.url)).toEqual(["w/d", "w/e"]);
    expect(await index.search("twin", 1)).toEqual([pages[3]]);
    expect(index.numPages).toBe(5);
  });

  test("finds Chinese words inside a run without spaces", async () => {
    await using index = await CorpusIndex.fromPages(pages);
    expect((await index.search("大学", 3)).map((hit) => hit.url)).toEqual(["w/c"]);
    expect(await index.search("学京", 3)).toEqual([]);
    expect(matchExpression("NBA 北京队 x")).toBe('"nba" OR "北 京" OR "京 队" OR "x"');
  });

  test("any text is a safe query", async () => {
    await using index = await CorpusIndex.fromPages(pages);
    const syntax = fc.constantFrom(
      '"',
      "*",
      "NEAR(",
      "AND",
      "OR NOT",
      "title:",
      "-",
      "^",
      "(",
      ")",
      "{a b}",
      "\0",
      "'",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string(),
      fc.array(syntax).map((parts) => parts.join(" ")),
    );
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 9 }), async (query, count) => {
        const hits = await index.search(query, count);
        expect(hits.length).toBeLessThanOrEqual(count);
        expect(await index.search(query, count)).toEqual(hits);
      }),
      { numRuns: 300 },
    );
    expect(
      await index.search("word ".repeat(1) + Array.from({ length: 5000 }, (_, i) => `w${i}`).join(" "), 3),
    ).toEqual([]);
    for (const query of ["", " ", '"', "\ud800", "()"]) expect(await index.search(query, 3)).toEqual([]);
  });

  test("a query made of a page's own words finds that page", async () => {
    const word = fc.stringMatching(/^[a-z]{3,8}$/);
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(word, { minLength: 2, maxLength: 8 }), async (words) => {
        await using index = await CorpusIndex.fromPages(words.map((text, i) => page(`u/${i}`, "", `x${text}x`)));
        expect((await index.search(`x${words[1]}x`, 1))[0]?.url).toBe("u/1");
      }),
      { numRuns: 30 },
    );
  });
});

describe("access", () => {
  test("exact URL, passages joined, MediaWiki spelling, unknown", async () => {
    await using index = await CorpusIndex.fromPages([
      page("https://x/index.php?title=Y", "", "why"),
      page("https://x/p", "", "one"),
      page("https://x/p", "", "two"),
    ]);
    expect(await index.access("https://x/index.php/Y")).toBe("why");
    expect(await index.access("https://x/p")).toBe("one\n\ntwo");
    expect(await index.access("https://x/")).toBeNull();
  });

  test("closed and aborted", async () => {
    const index = await CorpusIndex.fromPages(pages);
    await expect(index.access("w/a", AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    await index[Symbol.asyncDispose]();
    await index[Symbol.asyncDispose]();
    await expect(index.search("a", 1)).rejects.toMatchObject({ code: "WS_CLOSED" });
  });
});

describe("files", () => {
  test("builds, opens again, replaces; title may be missing", async () => {
    const jsonl = corpusFile(
      "good.jsonl",
      '{"url":"u/1","contents":"alpha beta"}\n\n{"url":"u/2","title":null,"contents":"","k":1}\n',
    );
    const indexPath = join(directory, "deep/good.index");
    for (let round = 0; round < 2; round += 1) {
      await using index = await CorpusIndex.build(jsonl, indexPath);
      expect(index.numPages).toBe(2);
    }
    await using index = CorpusIndex.open(indexPath);
    expect(await index.search("beta", 3)).toEqual([page("u/1", "", "alpha beta")]);
    expect(readdirSync(join(directory, "deep"))).toEqual(["good.index"]);
  });

  test.each([
    ["not JSON", '{"url":"u","contents":"c"}\n{"url":', /bad\.jsonl:2: not JSON/],
    ["a page without url", '{"contents":"c"}', /bad\.jsonl:1: url: /],
    ["an empty url", '{"url":" ","contents":"c"}', /bad\.jsonl:1: url: /],
    ["contents that are not text", '{"url":"u","contents":3}', /bad\.jsonl:1: contents: /],
    ["an empty corpus", "\n \n", /bad\.jsonl: the corpus has no pages/],
  ])("%s is one clear error and leaves nothing", async (_, text, message) => {
    const indexPath = join(directory, "bad.index");
    const building = CorpusIndex.build(corpusFile("bad.jsonl", text), indexPath);
    await expect(building).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringMatching(message),
    });
    expect(readdirSync(directory).filter((name) => name.startsWith("bad.index"))).toEqual([]);
  });

  test("missing and foreign files", async () => {
    const missing = join(directory, "nowhere.jsonl");
    await expect(readPages(missing).next()).rejects.toMatchObject({ code: "WS_IO" });
    expect(() => CorpusIndex.open(missing)).toThrow(expect.objectContaining({ code: "WS_IO" }));
    expect(existsSync(missing)).toBe(false);
    const foreign = corpusFile("foreign.index", "hello ".repeat(500));
    expect(() => CorpusIndex.open(foreign)).toThrow(expect.objectContaining({ code: "WS_CORRUPT_FILE" }));
    expect(() => CorpusIndex.open(corpusFile("empty.index", ""))).toThrow(
      expect.objectContaining({ code: "WS_CORRUPT_FILE" }),
    );
  });
});
