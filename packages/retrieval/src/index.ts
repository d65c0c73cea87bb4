// Public face of the retrieval package.
export { type BuildIndexOptions, type BuildProgress, buildIndex, ingest } from "./build-index.ts";
export { E5Encoder } from "./encoder.ts";
export { fuse, HybridRetriever } from "./hybrid.ts";
export type { IndexManifest } from "./index-files.ts";
export { type IndexVectorsOptions, indexVectors } from "./index-vectors.ts";
export * from "./options.ts";
export { QdrantCollection, QdrantRetriever, type TextEncoder } from "./qdrant.ts";
export type { FoundRecord, PageSource, Retriever } from "./retriever.ts";
export { SearchPool, type SearchPoolOptions } from "./search-pool.ts";
export { type RetrievalServer, type RetrievalServerOptions, serveRetrieval } from "./server.ts";
