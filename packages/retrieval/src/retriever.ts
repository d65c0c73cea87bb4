// What the server asks: records for queries, pages for addresses. Owns no search.

export interface FoundRecord {
  /** Place in the corpus, from 0. */
  id: number;
  /** The whole record. */
  json: string;
  /** Higher is better; its scale depends on the retriever. */
  score: number;
}

export interface Retriever extends AsyncDisposable {
  /** The best `count` records of each query, best first. Rejects with a WideSeekError when it cannot search. */
  retrieve(queries: readonly string[], count: number, signal?: AbortSignal): Promise<FoundRecord[][]>;
  /** Rejects with a WideSeekError saying what is wrong. */
  check(): Promise<void>;
}

export interface PageSource {
  /** Pages as JSON, null for an unknown address. */
  access(urls: readonly string[], signal?: AbortSignal): Promise<(string | null)[]>;
}
