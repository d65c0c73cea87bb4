// Real passages and tables: the linked passages are found by words, as often as the same query finds them in FTS5.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildIndex, SearchPool } from "@wideseek/retrieval";
import { CorpusIndex } from "@wideseek/tools";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readJsonLines, writeRealPassages } from "../../benchmarks/retrieval-corpus.ts";
import { linkedCells } from "../../benchmarks/retrieval-recall.ts";
import { sharedData } from "../shared-data.ts";

const data = join(sharedData, "data");

describe.skipIf(!existsSync(join(data, "hybridqa/subset600")))("HybridQA's 600 tables", () => {
  let directory: string;
  let pool: SearchPool;
  let embedded: CorpusIndex;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "wideseek-real-"));
    const corpus = join(directory, "passages.jsonl");
    expect(await writeRealPassages(data, corpus, false)).toBe(18_436);
    await buildIndex({ directory: join(directory, "index"), passages: [corpus] });
    const options = { directory: join(directory, "index"), workers: 1, cacheMiB: 64, cachedQueries: 0 };
    pool = await SearchPool.open(options);
    embedded = await CorpusIndex.fromPages(readJsonLines(corpus));
  }, 120_000);
  afterAll(async () => {
    await pool[Symbol.asyncDispose]();
    await embedded[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  test("linked passages are among the first 3 and 10 as often as in SQLite's index", async () => {
    const cells = (await linkedCells(data)).filter((_, i) => i % 200 === 0);
    expect(cells.length).toBeGreaterThan(100);
    const found = { ours: [0, 0], fts5: [0, 0] };
    const answers = await pool.retrieve(
      cells.map(({ query }) => query),
      10,
    );
    for (const [i, { query, url }] of cells.entries()) {
      const ours = (answers[i] ?? []).map(({ json }) => (JSON.parse(json) as { url: string }).url);
      const fts5 = (await embedded.search(query, 10)).map((hit) => hit.url);
      for (const [place, depth] of [3, 10].entries()) {
        if (ours.slice(0, depth).includes(url)) found.ours[place] = (found.ours[place] ?? 0) + 1;
        if (fts5.slice(0, depth).includes(url)) found.fts5[place] = (found.fts5[place] ?? 0) + 1;
      }
    }
    const shares = found.ours.map((count) => count / cells.length);
    expect(shares[0]).toBeGreaterThan(0.6);
    expect(shares[1]).toBeGreaterThan(0.75);
    // The two differ in how they split words such as "3-1" and "O'Neal", not in how they rank.
    for (const [place, count] of found.fts5.entries()) {
      expect(Math.abs((found.ours[place] as number) - count) / cells.length).toBeLessThan(0.04);
    }
  }, 120_000);

  test("every linked passage opens by its address", async () => {
    const cells = (await linkedCells(data)).filter((_, i) => i % 200 === 0);
    const pages = await pool.access(cells.map(({ url }) => url));
    for (const [i, page] of pages.entries())
      expect((JSON.parse(page as string) as { url: string }).url).toBe(cells[i]?.url);
  });
});
