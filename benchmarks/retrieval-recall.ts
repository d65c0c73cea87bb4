// How many of the passages that real tables link are found: by words, by vectors of random weights (format only), by both.
import { join } from "node:path";
import {
  buildIndex,
  E5Encoder,
  fuse,
  indexVectors,
  ingest,
  QdrantCollection,
  QdrantRetriever,
  type Retriever,
  SearchPool,
} from "@wideseek/retrieval";
import { LoopbackQdrant } from "@wideseek/retrieval/testing";
import type { Measurement } from "./record.ts";
import { repositoryRoot } from "./record.ts";
import { integerSource, passageOf, readJsonLines, titleOf, writeRealPassages } from "./retrieval-corpus.ts";

/** A cell of a table that links a passage, as an agent would look it up. */
export interface LinkedCell {
  query: string;
  url: string;
}

interface WikiTable {
  title: string;
  data: [string, string[]][][];
}

/** Every linked cell of the 600 real tables whose passage is there, once: its text and the table's title. */
export async function linkedCells(dataDirectory: string): Promise<LinkedCell[]> {
  const folder = join(dataDirectory, "hybridqa/subset600");
  const known = new Set<string>();
  for await (const { link } of readJsonLines<{ link: string }>(join(folder, "passages.jsonl"))) known.add(link);
  const cells = new Map<string, LinkedCell>();
  for await (const { title, data } of readJsonLines<WikiTable>(join(folder, "tables.jsonl"))) {
    for (const [text, links] of data.flat()) {
      for (const link of links) {
        if (!known.has(link)) continue;
        const query = `${text} ${title}`;
        cells.set(`${query}\n${link}`, { query, url: passageOf({ link, text: "" }).url });
      }
    }
  }
  return [...cells.values()];
}

const depths = [3, 10] as const;

/** Share of cells whose passage is among the first 3 and the first 10. */
async function recall(retriever: Retriever, cells: readonly LinkedCell[]): Promise<Record<number, number>> {
  const found: Record<number, number> = { 3: 0, 10: 0 };
  for (let first = 0; first < cells.length; first += 64) {
    const batch = cells.slice(first, first + 64);
    const answers = await retriever.retrieve(
      batch.map(({ query }) => query),
      10,
    );
    for (const [i, { url }] of batch.entries()) {
      const urls = (answers[i] ?? []).map(({ json }) => (JSON.parse(json) as { url: string }).url);
      for (const depth of depths) if (urls.slice(0, depth).includes(url)) found[depth] = (found[depth] ?? 0) + 1;
    }
  }
  return Object.fromEntries(depths.map((depth) => [depth, (found[depth] ?? 0) / cells.length]));
}

/** `numDense` cells are drawn for the searches with vectors. */
export async function* measureRecall(
  dataDirectory: string,
  directory: string,
  numDense: number,
): AsyncGenerator<Measurement, void, void> {
  const cells = await linkedCells(dataDirectory);
  const query = "text of a linked cell and title of its table";
  const yieldRecall = function* (name: string, shares: Record<number, number>, params: object): Generator<Measurement> {
    for (const depth of depths) {
      const value = shares[depth] as number;
      yield { name: `tools.recall_at${depth}.${name}`, unit: "1", values: [value], params: { query, ...params } };
    }
  };
  const open = async (name: string, withAll: boolean) => {
    const corpus = join(directory, `${name}.jsonl`);
    const numPassages = await writeRealPassages(dataDirectory, corpus, withAll);
    const index = { directory: join(directory, name), passages: [corpus] };
    await buildIndex(index);
    const pool = await SearchPool.open({ directory: index.directory, workers: 2, cacheMiB: 256, cachedQueries: 0 });
    return { pool, index, numPassages };
  };
  {
    const { pool, numPassages } = await open("all", true);
    await using retriever = pool;
    const params = { passages: numPassages, corpus: "OTT-QA and HybridQA subset", queries: cells.length };
    yield* yieldRecall("bm25", await recall(retriever, cells), params);
  }
  const draw = integerSource(3);
  const sample = Array.from({ length: numDense }, () => cells[draw(cells.length)] as LinkedCell);
  const { pool, index, numPassages } = await open("subset600", false);
  await using words = pool;
  await using qdrant = await LoopbackQdrant.start();
  const encoder = await E5Encoder.open({ directory: join(repositoryRoot, "test/golden/e5"), maxTokens: 48 });
  const collection = new QdrantCollection({ url: qdrant.url });
  await using vectors = new QdrantRetriever(collection, encoder);
  using store = await ingest(index);
  await indexVectors({ store, collection, encoder });
  const hybrid: Retriever = {
    retrieve: async (queries, count) => {
      const answers = await Promise.all([words.retrieve(queries, 50), vectors.retrieve(queries, 50)]);
      return queries.map((_, i) => fuse([answers[0][i] ?? [], answers[1][i] ?? []], count));
    },
    check: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const params = { passages: numPassages, corpus: "HybridQA subset", queries: sample.length };
  const random = { ...params, encoder: "random weights, 32 numbers: format only", store: "loopback, exact search" };
  yield* yieldRecall("subset600.bm25", await recall(words, sample), params);
  yield* yieldRecall("subset600.dense_random", await recall(vectors, sample), random);
  yield* yieldRecall("subset600.hybrid_random", await recall(hybrid, sample), random);
}

/** Different look-ups as agents make them, in random order; no two of a list are alike. */
export interface LookUps {
  /** Title of a linked passage and the name of its column. */
  short: string[];
  /** Title of a linked passage and title of the table. */
  long: string[];
}

export async function lookUps(dataDirectory: string): Promise<LookUps> {
  const short = new Set<string>();
  const long = new Set<string>();
  const path = join(dataDirectory, "ottqa/tables.jsonl.gz");
  for await (const { title, header, data } of readJsonLines<WikiTable & { header: [string, string[]][] }>(path)) {
    for (const row of data) {
      for (const [column, [, links]] of row.entries()) {
        for (const link of links) {
          short.add(`${titleOf(link)} ${header[column]?.[0] ?? ""}`.trim());
          long.add(`${titleOf(link)} ${title}`);
        }
      }
    }
  }
  return { short: shuffled([...short]), long: shuffled([...long]) };
}

function shuffled(list: string[]): string[] {
  const draw = integerSource(9);
  for (let i = list.length - 1; i > 0; i -= 1) {
    const j = draw(i + 1);
    [list[i], list[j]] = [list[j] as string, list[i] as string];
  }
  return list;
}
