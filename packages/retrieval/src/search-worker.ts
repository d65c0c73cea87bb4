// A thread that answers searches and page look-ups from an index folder. Owns its copies of index and store.
import { parentPort, workerData } from "node:worker_threads";
import { errorMessage } from "@wideseek/spec";
import { indexFiles } from "./index-files.ts";
import { RecordStore } from "./record-store.ts";
import type { FoundRecord } from "./retriever.ts";
import { TermIndex } from "./term-index.ts";

export interface SearchWorkerData {
  directory: string;
  cacheMiB: number;
  lengths: Uint32Array;
}

export type SearchRequest = { id: number } & (
  | { kind: "search"; queries: readonly string[]; count: number }
  | { kind: "access"; urls: readonly string[] }
);
export type SearchReply = { id: number } & (
  | { found: FoundRecord[][] }
  | { pages: (string | null)[] }
  | { error: string }
);

const port = parentPort;
if (port === null) throw new Error("search-worker runs as a worker thread only");
const { directory, cacheMiB, lengths } = workerData as SearchWorkerData;
const index = new TermIndex(directory, { cacheMiB, lengths });
const store = RecordStore.openReadOnly(indexFiles(directory).store);
const pageTable = index.manifest.numPages > 0 ? "pages" : "records";

function answer(request: SearchRequest): SearchReply {
  const { id } = request;
  try {
    if (request.kind === "access") return { id, pages: request.urls.map((url) => store.page(pageTable, url)) };
    const found = request.queries.map((query) =>
      index.search(query, request.count).map(({ row, score }) => ({ id: row, json: store.record(row), score })),
    );
    return { id, found };
  } catch (error) {
    return { id, error: errorMessage(error) };
  }
}

port.on("message", (requests: SearchRequest[]) => {
  port.postMessage(requests.map(answer));
});
port.postMessage([]);
