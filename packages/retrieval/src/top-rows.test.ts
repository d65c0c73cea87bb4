import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { indexFiles } from "./index-files.ts";
import { mergeSegments } from "./merge.ts";
import { SegmentBuilder, segmentRows } from "./segment.ts";
import { TermIndex } from "./term-index.ts";
import { indexTerms } from "./terms.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "wideseek-index-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Row {
  row: number;
  title: string;
  contents: string;
}

/** Rows may be far apart: what lies between has no text. */
function build(rows: readonly Row[]): TermIndex {
  const numRows = (rows.at(-1)?.row ?? 0) + 1;
  const paths: string[] = [];
  for (let first = 0; first < numRows; first += segmentRows) {
    const builder = new SegmentBuilder();
    for (const { row, title, contents } of rows) {
      if (row < first || row >= first + segmentRows) continue;
      builder.add(row - first, [
        { terms: indexTerms(title), weight: 5 },
        { terms: indexTerms(contents), weight: 1 },
      ]);
    }
    paths.push(join(directory, `${paths.length}.segment`));
    builder.write(paths.at(-1) as string);
  }
  const facts = mergeSegments(paths, directory);
  const manifest = { format: "wideseek-bm25", version: 1, numRows, numPages: 0, ...facts };
  writeFileSync(indexFiles(directory).manifest, JSON.stringify(manifest));
  return new TermIndex(directory, { cacheMiB: 16 });
}

/** SQLite's own BM25 over the same words. */
function fts5(rows: readonly Row[]): DatabaseSync {
  const database = new DatabaseSync(":memory:");
  database.exec("CREATE VIRTUAL TABLE pages USING fts5(title, contents, tokenize='unicode61')");
  const insert = database.prepare("INSERT INTO pages(rowid, title, contents) VALUES (?, ?, ?)");
  for (const { row, title, contents } of rows) insert.run(row, title, contents);
  return database;
}

function searchFts5(database: DatabaseSync, words: readonly string[], count: number): { row: number; score: number }[] {
  const expression = [...new Set(words)].map((word) => `"${word}"`).join(" OR ");
  return database
    .prepare(
      `SELECT rowid AS row, -bm25(pages, 5.0, 1.0) AS score FROM pages
       WHERE pages MATCH ? ORDER BY bm25(pages, 5.0, 1.0), rowid LIMIT ?`,
    )
    .all(expression, count) as unknown as { row: number; score: number }[];
}

/** Few words, each its own stem, the first ones common: lists of every density and many equal scores. */
const vocabulary = Array.from({ length: 40 }, (_, i) => `w${i}`);
const word = fc.tuple(fc.nat({ max: 39 }), fc.nat({ max: 39 })).map(([a, b]) => vocabulary[Math.min(a, b)] as string);
const text = (maxWords: number) =>
  fc.array(word, { minLength: 1, maxLength: maxWords }).map((words) => words.join(" "));

test("ranks as SQLite's FTS5 does, scores included, for any rows, query and count", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ title: text(3), contents: text(30), gap: fc.constantFrom(1, 1, 1, 2, 700, 40_000) }), {
        minLength: 1,
        maxLength: 60,
      }),
      fc.array(fc.array(word, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 5 }),
      fc.constantFrom(1, 3, 5, 10, 25),
      (pages, queries, count) => {
        let next = 0;
        const rows = pages.map(({ title, contents, gap }) => {
          next += gap;
          return { row: next, title, contents };
        });
        using index = build(rows);
        using database = fts5(rows);
        for (const words of queries) {
          const got = index.search(words.join(" "), count);
          const wanted = searchFts5(database, words, count);
          expect(got.length).toBe(wanted.length);
          for (const [rank, { score }] of wanted.entries()) expect(got[rank]?.score).toBeCloseTo(score, 10);
          // Where sums that are equal on paper differ in the last bit, the two may order them differently.
          expectSameUpToTies(got, wanted);
        }
      },
    ),
    { numRuns: 40 },
  );
});

function expectSameUpToTies(got: readonly { row: number; score: number }[], wanted: typeof got): void {
  const groups = (rows: typeof got): Map<string, number[]> => {
    const byScore = new Map<string, number[]>();
    for (const { row, score } of rows) {
      const key = score.toPrecision(9);
      byScore.set(
        key,
        [...(byScore.get(key) ?? []), row].sort((a, b) => a - b),
      );
    }
    return byScore;
  };
  const mine = groups(got);
  const lowest = wanted.at(-1)?.score.toPrecision(9);
  for (const [score, rows] of groups(wanted)) if (score !== lowest) expect(mine.get(score)).toEqual(rows);
}

test("a large segment with dense, mapped and sparse lists ranks as FTS5 does", () => {
  let state = 1;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  // Rank r with a probability of about 1 / r: the first words are in most rows, the last in a handful.
  const zipf = (): string => `z${Math.floor(5000 ** random())}`;
  const words = (count: number): string => Array.from({ length: count }, zipf).join(" ");
  const rows = Array.from({ length: 30_000 }, (_, row) => ({
    row: row * 2,
    title: words(2),
    contents: words(3 + Math.floor(random() * 20)),
  }));
  using index = build(rows);
  using database = fts5(rows);
  for (let i = 0; i < 40; i += 1) {
    const query = words(1 + Math.floor(random() * 7));
    const got = index.search(query, 10);
    const wanted = searchFts5(database, query.split(" "), 10);
    for (const [rank, { score }] of wanted.entries()) expect(got[rank]?.score).toBeCloseTo(score, 9);
    expectSameUpToTies(got, wanted);
  }
});

test("words of any script are found by their stems, without diacritics", () => {
  using index = build([
    { row: 0, title: "Connections", contents: "Świerczyńska ran in Zürich" },
    { row: 1, title: "大學", contents: "東京大学の歴史" },
  ]);
  expect(index.search("connected", 3).map(({ row }) => row)).toEqual([0]);
  expect(index.search("SWIERCZYNSKA zurich", 3).map(({ row }) => row)).toEqual([0]);
  expect(index.search("東京", 3).map(({ row }) => row)).toEqual([1]);
  expect(index.search("京", 3).map(({ row }) => row)).toEqual([1]);
  expect(index.search("nothing of it", 3)).toEqual([]);
  expect(index.search("?!", 3)).toEqual([]);
});
