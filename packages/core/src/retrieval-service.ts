// The retrieval server and the indexing command, wired from their options. Owns what is opened and closed in which order.
import { existsSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { type LoadConfigOptions, loadSettings } from "@wideseek/config";
import {
  type BuildProgress,
  buildIndex,
  E5Encoder,
  type EncoderOptionsInput,
  type FoundRecord,
  HybridRetriever,
  indexVectors,
  ingest,
  type PageSource,
  QdrantCollection,
  type QdrantOptionsInput,
  QdrantRetriever,
  type RetrievalServer,
  type RetrievalServiceOptions,
  type Retriever,
  retrievalServiceSchema,
  SearchPool,
  serveRetrieval,
} from "@wideseek/retrieval";
import { type SearchBackend, type SearchHit, WideSeekError } from "@wideseek/spec";
import { openCorpus } from "./corpus-tools.ts";

/** Reads the settings of the server. @throws as `loadConfig` */
export function loadRetrievalService(options: LoadConfigOptions): Promise<RetrievalServiceOptions> {
  return loadSettings(retrievalServiceSchema, options);
}

/** A server that has been tried: it can search. Closing it ends what is behind it too. */
export async function startRetrievalService(options: RetrievalServiceOptions): Promise<RetrievalServer> {
  await using opened = new AsyncDisposableStack();
  const { retriever, pages } = await openRetriever(options, opened);
  await retriever.check();
  const { limits, host, port } = options;
  const server = opened.use(await serveRetrieval({ retriever, pages, limits, host, port }));
  const owned = opened.move();
  const close = (): Promise<void> => owned.disposeAsync();
  return { url: server.url, close, [Symbol.asyncDispose]: close };
}

async function openRetriever(
  options: RetrievalServiceOptions,
  opened: AsyncDisposableStack,
): Promise<{ retriever: Retriever; pages: PageSource }> {
  const { index, mode, encoder, qdrant, candidates } = options;
  const path = index as string;
  if (!existsSync(path)) throw new WideSeekError("WS_IO", `${path}: no such index; make one with \`wideseek index\``);
  if (!statSync(path).isDirectory()) {
    if (mode === "bm25") {
      const corpus = opened.use(new CorpusRetriever(await openCorpus(path)));
      return { retriever: corpus, pages: corpus };
    }
    const hint = "make an index folder with `wideseek index`";
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${path}: cannot be searched in mode ${mode}; ${hint}`);
  }
  const { cacheMiB, cachedQueries, workers = availableParallelism() } = options;
  const pool = opened.use(await SearchPool.open({ directory: path, cacheMiB, cachedQueries, workers }));
  if (mode === "bm25") return { retriever: pool, pages: pool };
  const collection = new QdrantCollection(qdrant, process.env.QDRANT_API_KEY);
  const dense = opened.use(new QdrantRetriever(collection, await E5Encoder.open(encoder as EncoderOptionsInput)));
  await dense.check();
  await collection.waitUntilReady({ resume: false });
  return { retriever: mode === "dense" ? dense : new HybridRetriever([pool, dense], candidates), pages: pool };
}

/** The embedded index of the agents' own tools behind the server's interface; it searches on the calling thread. */
class CorpusRetriever implements Retriever, PageSource {
  readonly #backend: SearchBackend;

  constructor(backend: SearchBackend) {
    this.#backend = backend;
  }

  /** It answers with pages, not with rows; scores only say the order. */
  async retrieve(queries: readonly string[], count: number, signal?: AbortSignal): Promise<FoundRecord[][]> {
    const record = (page: SearchHit, place: number): FoundRecord => ({
      id: place,
      json: JSON.stringify(page),
      score: 1 / (place + 1),
    });
    return Promise.all(queries.map(async (query) => (await this.#backend.search(query, count, signal)).map(record)));
  }

  access(urls: readonly string[], signal?: AbortSignal): Promise<(string | null)[]> {
    return Promise.all(
      urls.map(async (url) => {
        const contents = await this.#backend.access(url, signal);
        return contents === null ? null : JSON.stringify({ url, contents });
      }),
    );
  }

  async check(): Promise<void> {
    await this.#backend.search("a", 1);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.#backend[Symbol.asyncDispose]());
  }
}

export type IndexProgress = Omit<BuildProgress, "stage"> & { stage: BuildProgress["stage"] | "vectors" };

export interface IndexCorpusOptions {
  directory: string;
  passages: readonly string[];
  pages?: readonly string[] | undefined;
  /** False = vectors only. */
  words?: boolean | undefined;
  /** Also, or only, fill a Qdrant collection. */
  vectors?: { qdrant: QdrantOptionsInput; encoder: EncoderOptionsInput } | undefined;
  onProgress?: ((progress: IndexProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface IndexCorpusReport {
  numPassages: number;
  numPages: number;
  /** Vectors written by this call. */
  numVectors: number;
}

/** Indexes a corpus, going on where an earlier call was stopped. @throws as `buildIndex` and `indexVectors` */
export async function indexCorpus(options: IndexCorpusOptions): Promise<IndexCorpusReport> {
  const { vectors, words = true, onProgress, signal } = options;
  await using opened = new AsyncDisposableStack();
  let encoder: E5Encoder | undefined;
  let collection: QdrantCollection | undefined;
  if (vectors !== undefined) {
    // A wrong encoder or a dead Qdrant shows before hours of reading.
    encoder = opened.use(await E5Encoder.open(vectors.encoder));
    collection = new QdrantCollection(vectors.qdrant, process.env.QDRANT_API_KEY);
    await collection.create(encoder.dimension);
  }
  if (words) await buildIndex(options);
  using store = await ingest(options);
  let numVectors = 0;
  if (encoder !== undefined && collection !== undefined) {
    numVectors = await indexVectors({ store, collection, encoder, onProgress, signal });
  }
  return { numPassages: store.count("records"), numPages: store.count("pages"), numVectors };
}
