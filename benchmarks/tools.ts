// Search over a synthetic corpus with word frequencies like text: queries per second and the slow tail.
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CorpusIndex } from "@wideseek/tools";
import type { Benchmark } from "./context.ts";
import { percentile } from "./measure.ts";

const vocabulary = 50_000;
const wordsPerPage = 100;
const queryWords = 3;
/** Queries are made of content words: the commonest hundred words are to this corpus what "the" and "of" are to English. */
const firstQueryRank = 100;

/** Uniform numbers in [0, 1), the same in every run. */
function uniformSource(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Rank r >= `first` with probability about 1 / r (Zipf), by inverting the logarithmic distribution. */
function zipfWord(uniform: () => number, first = 1): string {
  const rank = Math.floor(first * (vocabulary / first) ** uniform());
  // Letters only, so that the tokenizer keeps a word whole.
  return `w${rank.toString(26).replace(/\d/g, (digit) => String.fromCharCode(113 + Number(digit)))}`;
}

async function writeCorpus(path: string, numPages: number): Promise<void> {
  const uniform = uniformSource(7);
  const file = await open(path, "w");
  try {
    for (let begin = 0; begin < numPages; begin += 1000) {
      const pages = Array.from({ length: Math.min(1000, numPages - begin) }, (_, offset) => {
        const words = Array.from({ length: wordsPerPage }, () => zipfWord(uniform));
        const page = {
          url: `bench://${begin + offset}`,
          title: words.slice(0, 3).join(" "),
          contents: words.join(" "),
        };
        return `${JSON.stringify(page)}\n`;
      });
      await file.write(pages.join(""));
    }
  } finally {
    await file.close();
  }
}

export const toolsBenchmark: Benchmark = async function* ({ smoke, passages }) {
  const numPages = smoke ? 500 : passages;
  const numQueries = smoke ? 50 : 2000;
  const directory = await mkdtemp(join(tmpdir(), "wideseek-tools-"));
  try {
    const corpus = join(directory, "pages.jsonl");
    await writeCorpus(corpus, numPages);
    const buildStart = performance.now();
    await using index = await CorpusIndex.build(corpus, join(directory, "index.sqlite"));
    const buildSeconds = (performance.now() - buildStart) / 1000;
    await writeFile(corpus, "");
    const uniform = uniformSource(11);
    const queries = Array.from({ length: numQueries }, () =>
      Array.from({ length: queryWords }, () => zipfWord(uniform, firstQueryRank)).join(" "),
    );
    for (const query of queries.slice(0, 50)) await index.search(query, 10);
    const milliseconds: number[] = [];
    const start = performance.now();
    for (const query of queries) {
      const queryStart = performance.now();
      await index.search(query, 10);
      milliseconds.push(performance.now() - queryStart);
    }
    const seconds = (performance.now() - start) / 1000;
    // The index inside of the agents' process; the benchmark `retrieval` loads the server.
    const prefix = `tools.embedded${numPages}`;
    const params = {
      passages: numPages,
      wordsPerPage,
      queries: numQueries,
      hits: 10,
      queryWords: 3,
      corpus: "synthetic",
    };
    yield { name: `${prefix}.qps`, unit: "1/s", values: [numQueries / seconds], params };
    yield { name: `${prefix}.p99_ms`, unit: "ms", values: [percentile(milliseconds, 0.99)], params };
    yield { name: `${prefix}.build_seconds`, unit: "s", values: [buildSeconds], params };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};
