// The embedded search engine: pages in SQLite with an FTS5 index ranked by BM25. Owns its database file; no server.
import { existsSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { errorMessage, makeFolder, type SearchBackend, type SearchHit, WideSeekError } from "@wideseek/spec";
import { LRUCache } from "lru-cache";
import { indexedText, matchExpression } from "./match-expression.ts";
import { readPages } from "./pages.ts";

// "WSix" as a big-endian integer: tells our files from other SQLite files.
const applicationId = 0x57536978;
const formatVersion = 1;
// A page whose title has the words of the query is nearly always the page that is meant.
const titleWeight = 5;
// The samples of a question ask the same queries; the pages never change, so an answer never gets old.
const maxCachedQueries = 10_000;

const schema = `
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${formatVersion};
  CREATE TABLE pages(id INTEGER PRIMARY KEY, url TEXT NOT NULL, title TEXT NOT NULL, contents TEXT NOT NULL);
  CREATE INDEX pages_url ON pages(url);
  CREATE VIRTUAL TABLE pages_fts USING fts5(
    title, contents, content='', tokenize='porter unicode61 remove_diacritics 2');`;

/**
 * BM25 over pages; equal pages in equal order give equal results. SQLite answers on the calling thread: a query over
 * thousands of pages that share its words holds the event loop for milliseconds.
 */
export class CorpusIndex implements SearchBackend {
  readonly numPages: number;
  readonly #database: DatabaseSync;
  readonly #search: StatementSync;
  readonly #access: StatementSync;
  readonly #cachedHits: LRUCache<string, SearchHit[]> = new LRUCache({ max: maxCachedQueries });

  private constructor(database: DatabaseSync) {
    this.#database = database;
    // `bm25` is smaller for better pages; ties go to the page that came first in the corpus.
    this.#search = database.prepare(
      `SELECT pages.url, pages.title, pages.contents
       FROM (SELECT rowid AS id, bm25(pages_fts, ${titleWeight}.0, 1.0) AS score FROM pages_fts
             WHERE pages_fts MATCH ? ORDER BY score, rowid LIMIT ?) AS hits
       JOIN pages ON pages.id = hits.id ORDER BY hits.score, hits.id`,
    );
    this.#access = database.prepare("SELECT contents FROM pages WHERE url = ? ORDER BY id");
    this.numPages = Number(database.prepare("SELECT count(*) AS n FROM pages").get()?.n);
  }

  /**
   * Streams a JSONL corpus into an index file, replacing it when complete, and opens it.
   * @throws WS_INVALID_ARGUMENT with file and line for a bad line, or for a corpus without pages; WS_IO
   */
  static async build(jsonlPath: string, indexPath: string): Promise<CorpusIndex> {
    const temporaryPath = `${indexPath}.building-${process.pid}`;
    try {
      makeFolder(dirname(indexPath), indexPath);
      rmSync(temporaryPath, { force: true });
      (await ingest(temporaryPath, readPages(jsonlPath), jsonlPath)).close();
      renameSync(temporaryPath, indexPath);
    } catch (error) {
      rmSync(temporaryPath, { force: true });
      throw asWideSeekError(error, "WS_IO", `${indexPath}: cannot build the index`);
    }
    return CorpusIndex.open(indexPath);
  }

  /** Opens an index file read-only. @throws WS_IO when it does not exist, WS_CORRUPT_FILE when it is not an index */
  static open(indexPath: string): CorpusIndex {
    if (!existsSync(indexPath)) throw new WideSeekError("WS_IO", `${indexPath}: no such index file; build it first`);
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(indexPath, { readOnly: true });
      const id = database.prepare("PRAGMA application_id").get()?.application_id;
      const version = database.prepare("PRAGMA user_version").get()?.user_version;
      if (id !== applicationId || version !== formatVersion) {
        throw new WideSeekError(
          "WS_CORRUPT_FILE",
          `${indexPath}: not a corpus index of format ${formatVersion} (got ${String(version)}); build it again`,
        );
      }
      return new CorpusIndex(database);
    } catch (error) {
      database?.close();
      throw asWideSeekError(error, "WS_CORRUPT_FILE", `${indexPath}: not a readable corpus index`);
    }
  }

  /** An index in memory. `source` names the pages in errors. @throws WS_INVALID_ARGUMENT when there are no pages */
  static async fromPages(
    pages: Iterable<SearchHit> | AsyncIterable<SearchHit>,
    source: string = "corpus",
  ): Promise<CorpusIndex> {
    return new CorpusIndex(await ingest(":memory:", pages, source));
  }

  async search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]> {
    signal?.throwIfAborted();
    const expression = matchExpression(query);
    if (expression === null) return [];
    return this.#run("search", () => {
      const key = `${count} ${expression}`;
      const hits = this.#cachedHits.get(key) ?? (this.#search.all(expression, count) as unknown as SearchHit[]);
      this.#cachedHits.set(key, hits);
      return [...hits];
    });
  }

  /** A URL on several lines of the corpus is one page in several passages. */
  async access(url: string, signal?: AbortSignal): Promise<string | null> {
    signal?.throwIfAborted();
    const passages = (key: string): string[] =>
      this.#run("access", () => this.#access.all(key)).map((row) => String(row.contents));
    let found = passages(url);
    // MediaWiki has two spellings of a page's address; the published page server knows the second one.
    if (found.length === 0) found = passages(url.replaceAll("index.php/", "index.php?title="));
    return found.length === 0 ? null : found.join("\n\n");
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) this.#database.close();
  }

  #run<T>(op: string, query: () => T): T {
    if (!this.#database.isOpen) throw new WideSeekError("WS_CLOSED", `${op}: the corpus index is closed`, { op });
    try {
      return query();
    } catch (error) {
      throw new WideSeekError("WS_IO", `${op}: the corpus index failed: ${errorMessage(error)}`, { op, cause: error });
    }
  }
}

/** A new database with all `pages`, in one transaction. */
async function ingest(
  path: string,
  pages: Iterable<SearchHit> | AsyncIterable<SearchHit>,
  source: string,
): Promise<DatabaseSync> {
  const database = new DatabaseSync(path);
  try {
    database.exec(schema);
    database.exec("BEGIN");
    const insertPage = database.prepare("INSERT INTO pages(url, title, contents) VALUES (?, ?, ?)");
    const insertWords = database.prepare("INSERT INTO pages_fts(rowid, title, contents) VALUES (?, ?, ?)");
    let numPages = 0;
    for await (const { url, title, contents } of pages) {
      const { lastInsertRowid } = insertPage.run(url, title, contents);
      insertWords.run(lastInsertRowid, indexedText(title), indexedText(contents));
      numPages += 1;
    }
    if (numPages === 0) throw new WideSeekError("WS_INVALID_ARGUMENT", `${source}: the corpus has no pages`);
    database.exec("COMMIT");
    database.exec("INSERT INTO pages_fts(pages_fts) VALUES ('optimize')");
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function asWideSeekError(error: unknown, code: "WS_IO" | "WS_CORRUPT_FILE", what: string): WideSeekError {
  if (error instanceof WideSeekError) return error;
  return new WideSeekError(code, `${what}: ${errorMessage(error)}`, { cause: error });
}
