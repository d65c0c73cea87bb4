// Answers on disk, shared by processes: one SQLite file in WAL mode. Owns the file, its size and the age of what is in it;
// what is worth keeping, and under which key, is decided elsewhere.
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { errorMessage, makeFolder, WideSeekError } from "@wideseek/spec";

export interface DiskCacheOptions {
  /** What it holds, in the plural: "web pages". A file that holds something else is refused. */
  contents: string;
  /** Bytes of keys and answers that are kept, more than 0; those not used for longest go first. */
  maxBytes: number;
  /** Seconds after which an answer counts as missing; left out, it never does. */
  maxAgeSeconds?: number | undefined;
  /** Seconds since 1970; default: the clock. */
  now?: (() => number) | undefined;
}

/** A file of another version is refused. */
const version = 2;
/** Longer waits for another process would be felt by everything else that runs on this thread. */
const busyMs = 200;
/** Few enough to be gone in a moment, more than one put brings. */
const evictedAtOnce = 64;
/** Bytes of a row beside its answer: key, size, times, and their place in the index. */
const rowBytes = 120;
/** A read refreshes its row at most this often: reads should not write. */
const refreshSeconds = 3600;

/** A cache that cannot be read or written right now is no reason to fail: such reads miss, such writes are left out. */
export class DiskCache implements Disposable {
  readonly #database: DatabaseSync;
  readonly #maxBytes: number;
  readonly #maxAgeSeconds: number;
  readonly #now: () => number;
  readonly #statements: Record<"get" | "put" | "refresh" | "sum" | "evict", StatementSync>;
  /** Of all processes at the last count, and of this one since. */
  #bytes: number;
  #bytesSinceCount = 0;
  /** Reads and writes that were given up. */
  numSkipped = 0;

  private constructor(database: DatabaseSync, options: DiskCacheOptions) {
    this.#database = database;
    this.#maxBytes = options.maxBytes;
    this.#maxAgeSeconds = options.maxAgeSeconds ?? Number.POSITIVE_INFINITY;
    this.#now = options.now ?? (() => Date.now() / 1000);
    this.#statements = {
      get: database.prepare("SELECT answer, stored, used FROM answers WHERE key = ?"),
      put: database.prepare("INSERT OR REPLACE INTO answers (key, answer, bytes, stored, used) VALUES (?, ?, ?, ?, ?)"),
      refresh: database.prepare("UPDATE answers SET used = ? WHERE key = ?"),
      sum: database.prepare("SELECT coalesce(sum(bytes), 0) AS bytes FROM answers"),
      evict: database.prepare(
        `DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY used LIMIT ${evictedAtOnce}) RETURNING bytes`,
      ),
    };
    this.#bytes = this.#count();
  }

  /** @throws WS_IO, WS_CORRUPT_FILE when the file is broken or something else, WS_INVALID_ARGUMENT */
  static open(file: string, options: DiskCacheOptions): DiskCache {
    const { contents, maxBytes } = options;
    const op = "openDiskCache";
    if (!(maxBytes > 0)) {
      const message = `cache of ${contents}: maxBytes is ${maxBytes}, must be more than 0`;
      throw new WideSeekError("WS_INVALID_ARGUMENT", message, { op });
    }
    let database: DatabaseSync | undefined;
    try {
      makeFolder(dirname(file), file);
      // Another process may be making the tables at this moment: opening waits longer than reading.
      database = new DatabaseSync(file, { timeout: 10_000 });
      prepareTables(database, file, contents);
      database.exec(`PRAGMA busy_timeout = ${busyMs}`);
      return new DiskCache(database, options);
    } catch (error) {
      database?.close();
      if (error instanceof WideSeekError) throw error;
      const corrupt = /not a database|malformed/.test(errorMessage(error));
      const message = `${file}: cannot open the cache of ${contents}: ${errorMessage(error)}${corrupt ? hint : ""}`;
      throw new WideSeekError(corrupt ? "WS_CORRUPT_FILE" : "WS_IO", message, { op, details: { file }, cause: error });
    }
  }

  /** The JSON value of a key; undefined when there is none. Whoever reads it checks its form. */
  get(key: Uint8Array): unknown {
    return this.#orSkip(() => {
      const row = this.#statements.get.get(key) as { answer: string; stored: number; used: number } | undefined;
      if (row === undefined) return undefined;
      const now = this.#now();
      if (now - row.stored > this.#maxAgeSeconds) return undefined;
      if (now - row.used > refreshSeconds) this.#statements.refresh.run(now, key);
      return JSON.parse(row.answer);
    });
  }

  /** @param answer a JSON value */
  put(key: Uint8Array, answer: unknown): void {
    const text = JSON.stringify(answer);
    const bytes = Buffer.byteLength(text) + rowBytes;
    // It would push out everything else, and then itself.
    if (bytes > this.#maxBytes / 4) return;
    this.#orSkip(() => {
      const now = this.#now();
      this.#statements.put.run(key, text, bytes, now, now);
      this.#bytes += bytes;
      this.#bytesSinceCount += bytes;
      // Other processes write too: their share is counted now and then.
      if (this.#bytesSinceCount > this.#maxBytes / 16) this.#bytes = this.#count();
      while (this.#bytes > this.#maxBytes && this.#evict() > 0) {}
    });
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #evict(): number {
    const rows = this.#statements.evict.all() as { bytes: number }[];
    for (const { bytes } of rows) this.#bytes -= bytes;
    return rows.length;
  }

  #count(): number {
    this.#bytesSinceCount = 0;
    return (this.#statements.sum.get() as { bytes: number }).bytes;
  }

  #orSkip<T>(work: () => T): T | undefined {
    if (!this.#database.isOpen) return undefined;
    try {
      return work();
    } catch {
      this.numSkipped += 1;
      return undefined;
    }
  }
}

/** Key of a request: the SHA-256 of everything its answer depends on, a JSON value, whatever the order of its keys. */
export function contentKey(value: unknown): Uint8Array {
  return createHash("sha256").update(JSON.stringify(value, sortedKeys)).digest();
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const hint = "; delete it, or name another file for the cache";

/** Tells our files from other SQLite files, and those of different contents apart: 31 bits, as SQLite keeps them. */
function applicationId(contents: string): number {
  return createHash("sha256").update(`wideseek cache of ${contents}`).digest().readUInt32BE(0) >>> 1;
}

function prepareTables(database: DatabaseSync, file: string, contents: string): void {
  const read = (pragma: string): number => Number(Object.values(database.prepare(`PRAGMA ${pragma}`).get() ?? {})[0]);
  const id = applicationId(contents);
  // Looked at before anything is written: the file may be somebody else's.
  const { tables } = database.prepare("SELECT count(*) AS tables FROM sqlite_schema").get() as { tables: number };
  if (tables > 0) {
    const found = read("user_version");
    if (read("application_id") !== id || found !== version) {
      const message = `${file}: not a cache of ${contents} of version ${version} (got ${found})${hint}`;
      throw new WideSeekError("WS_CORRUPT_FILE", message, { op: "openDiskCache", details: { file } });
    }
  }
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216;");
  database.exec(`BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL, bytes INTEGER NOT NULL,
      stored REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used, bytes);
    PRAGMA application_id = ${id};
    PRAGMA user_version = ${version};
    COMMIT;`);
}
