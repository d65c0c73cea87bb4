// Options of the retrieval server, the encoder and the vector store as schemas. Owns no behaviour.
import { z } from "zod";

const count = (limit: number): z.ZodInt => z.int().min(1).max(limit);

export const serverLimitsSchema = z.strictObject({
  defaultCount: count(1000).default(3).describe("Records of a query that names no topk, or 0."),
  maxCount: count(10_000).default(1000).describe("Most records that one query may ask for."),
  maxQueries: count(100_000).default(256).describe("Most queries or addresses of one request."),
  maxQueryCharacters: count(10_000_000).default(10_000).describe("Longest query or address, in characters."),
  maxBodyBytes: count(2 ** 30)
    .default(4 * 2 ** 20)
    .describe("Largest request body, in bytes."),
  maxConcurrent: count(1_000_000).default(2048).describe("Requests in work at once; further ones get status 503."),
  timeoutSeconds: z.number().positive().max(86_400).default(60).describe("Seconds after which a request is given up."),
});
export type ServerLimits = z.output<typeof serverLimitsSchema>;

/** Defaults are the published encoder's (intfloat/e5-base-v2). */
export const encoderSchema = z.strictObject({
  directory: z.string().min(1).describe("Folder with tokenizer.json and the ONNX model."),
  model: z.string().min(1).default("model.onnx").describe("Path of the ONNX model in that folder."),
  queryPrefix: z.string().default("query: ").describe("Put before every query."),
  passagePrefix: z.string().default("passage: ").describe("Put before every passage."),
  maxTokens: z.int().min(8).max(8192).default(256).describe("Longer texts are cut to this many tokens."),
  batchSize: count(4096).default(64).describe("Most texts that are encoded at once."),
  threads: count(1024).optional().describe("Threads of the encoder; left out, one per core."),
});
export type EncoderOptions = z.output<typeof encoderSchema>;
export type EncoderOptionsInput = z.input<typeof encoderSchema>;

/** Defaults are the published collection's. */
export const qdrantSchema = z.strictObject({
  url: z
    .url({ protocol: /^https?$/, error: "must be an http or https URL such as http://127.0.0.1:6333" })
    .default("http://127.0.0.1:6333")
    .describe("Address of Qdrant's REST interface; its key, if it has one, comes from QDRANT_API_KEY."),
  collection: z.string().min(1).default("wiki_collection_m32_cef512").describe("Name of the collection."),
  hnswM: count(1024).default(32).describe("Edges of each node of the HNSW graph, when the collection is made."),
  hnswEfConstruct: count(100_000).default(512).describe("Candidates while the HNSW graph is built."),
  hnswEf: count(100_000).default(256).describe("Candidates of a search in the HNSW graph."),
  timeoutSeconds: z.number().positive().max(86_400).default(60).describe("Seconds after which a request is given up."),
  upsertBatch: count(100_000).default(1024).describe("Points of one upsert."),
  readySeconds: z
    .number()
    .positive()
    .max(7 * 86_400)
    .default(300)
    .describe("Longest wait for the collection to become ready at the start of the server, in seconds."),
});
export type QdrantOptions = z.output<typeof qdrantSchema>;
export type QdrantOptionsInput = z.input<typeof qdrantSchema>;

export const retrievalServiceSchema = z
  .strictObject({
    index: z
      .string()
      .min(1)
      .nullable()
      .default(null)
      .describe("Folder made by `wideseek index`; or, for small corpora, a JSONL file of pages or an index.sqlite."),
    mode: z
      .enum(["bm25", "dense", "hybrid"])
      .default("bm25")
      .describe("Search by words, by vectors in Qdrant, or both fused by reciprocal rank."),
    host: z.string().min(1).default("127.0.0.1").describe("Address to listen on."),
    port: z.int().min(0).max(65_535).default(8000).describe("Port to listen on; 0 = any free one."),
    workers: count(256).optional().describe("Threads that search; left out, one per available core."),
    cacheMiB: count(1_000_000).default(256).describe("Postings that each thread keeps in memory, in MiB."),
    cachedQueries: z
      .int()
      .min(0)
      .max(100_000_000)
      .default(10_000)
      .describe("Answers that are kept, since the samples of a question ask the same; 0 = none."),
    candidates: count(10_000).default(50).describe("Records of each search that hybrid mode fuses."),
    encoder: encoderSchema.nullable().default(null).describe("The encoder of dense and hybrid search."),
    qdrant: qdrantSchema.prefault({}).describe("The vector store of dense and hybrid search."),
    limits: serverLimitsSchema.prefault({}).describe("What a request may ask for."),
  })
  .refine(({ index }) => index !== null, {
    path: ["index"],
    error: "missing; pages, and words to search, come from it",
  })
  .refine(({ mode, encoder }) => mode === "bm25" || encoder !== null, {
    path: ["encoder"],
    error: "missing; dense and hybrid search need one",
  });
export type RetrievalServiceOptions = z.output<typeof retrievalServiceSchema>;
