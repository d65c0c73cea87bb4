// Replies of models on disk, shared by processes: one SQLite file in WAL mode. Owns the file and its size; what is worth
// keeping is decided elsewhere.
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type ChatReply, errorMessage, WideSeekError } from "@wideseek/spec";
import { z } from "zod";

export interface ReplyCacheOptions {
  /** Bytes of keys and replies that are kept; the least recently used go first. Default 1 GiB. */
  maxBytes?: number | undefined;
  /** Seconds since 1970; default: the clock. */
  now?: (() => number) | undefined;
}

/** Written into the file; a file of another version is refused. */
const version = 1;
/** Longer waits for another process would be felt by everything else that runs on this thread. */
const busyMs = 200;
/** Few enough to be gone in a moment, more than one put brings. */
const evictedAtOnce = 64;
/** Bytes of a row beside its reply: key, size, time, and their place in the index. */
const rowBytes = 100;
/** A read refreshes its row at most this often: reads should not write. */
const refreshSeconds = 3600;

const replySchema: z.ZodType<ChatReply> = z.object({
  text: z.string(),
  thinking: z.string(),
  toolCalls: z.array(z.object({ id: z.string(), name: z.string(), arguments: z.unknown() })),
  callErrors: z.array(z.string()),
  finishReason: z.enum(["stop", "length"]),
  numPromptTokens: z.number(),
  numCompletionTokens: z.number(),
});

/** A cache that cannot be read or written right now is no reason to fail: such reads miss, such writes are left out. */
export class ReplyCache implements Disposable {
  readonly #database: DatabaseSync;
  readonly #maxBytes: number;
  readonly #now: () => number;
  readonly #statements: Record<"get" | "put" | "refresh" | "sum" | "evict", StatementSync>;
  /** Of all processes at the last count, and of this one since. */
  #bytes: number;
  #bytesSinceCount = 0;
  #closed = false;
  /** Reads and writes that were given up. */
  numSkipped = 0;

  private constructor(
    database: DatabaseSync,
    { maxBytes = 2 ** 30, now = () => Date.now() / 1000 }: ReplyCacheOptions,
  ) {
    this.#database = database;
    this.#maxBytes = maxBytes;
    this.#now = now;
    this.#statements = {
      get: database.prepare("SELECT reply, used FROM replies WHERE key = ?"),
      put: database.prepare("INSERT OR REPLACE INTO replies (key, reply, bytes, used) VALUES (?, ?, ?, ?)"),
      refresh: database.prepare("UPDATE replies SET used = ? WHERE key = ?"),
      sum: database.prepare("SELECT coalesce(sum(bytes), 0) AS bytes FROM replies"),
      evict: database.prepare(
        `DELETE FROM replies WHERE key IN (SELECT key FROM replies ORDER BY used LIMIT ${evictedAtOnce}) RETURNING bytes`,
      ),
    };
    this.#bytes = this.#count();
  }

  /** @throws WS_IO, WS_CORRUPT_FILE when the file is something else, WS_INVALID_ARGUMENT */
  static open(file: string, options: ReplyCacheOptions = {}): ReplyCache {
    const { maxBytes = 1 } = options;
    if (!(Number.isInteger(maxBytes) && maxBytes >= 1)) {
      throw new WideSeekError(
        "WS_INVALID_ARGUMENT",
        `reply cache: maxBytes is ${maxBytes}, must be a positive integer`,
      );
    }
    let database: DatabaseSync | undefined;
    try {
      mkdirSync(dirname(file), { recursive: true });
      // Another process may be making the tables at this moment: opening waits longer than reading.
      database = new DatabaseSync(file, { timeout: 10_000 });
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216;");
      prepareTables(database, file);
      database.exec(`PRAGMA busy_timeout = ${busyMs}`);
      return new ReplyCache(database, options);
    } catch (error) {
      database?.close();
      if (error instanceof WideSeekError) throw error;
      const corrupt = /not a database|malformed/.test(errorMessage(error));
      throw new WideSeekError(
        corrupt ? "WS_CORRUPT_FILE" : "WS_IO",
        `${file}: ${errorMessage(error)}${corrupt ? "; delete it, or name another file for the cache" : ""}`,
        { op: "openReplyCache", details: { file }, cause: error },
      );
    }
  }

  get(key: Uint8Array): ChatReply | undefined {
    return this.#orSkip(() => {
      const row = this.#statements.get.get(key) as { reply: string; used: number } | undefined;
      if (row === undefined) return undefined;
      const now = this.#now();
      if (now - row.used > refreshSeconds) this.#statements.refresh.run(now, key);
      const reply = replySchema.safeParse(parseJson(row.reply));
      return reply.success ? reply.data : undefined;
    });
  }

  put(key: Uint8Array, reply: ChatReply): void {
    const text = JSON.stringify(reply);
    const bytes = Buffer.byteLength(text) + rowBytes;
    // It would push out everything else, and then itself.
    if (bytes > this.#maxBytes / 4) return;
    this.#orSkip(() => {
      this.#statements.put.run(key, text, bytes, this.#now());
      this.#bytes += bytes;
      this.#bytesSinceCount += bytes;
      // Other processes write too: their share is counted now and then.
      if (this.#bytesSinceCount > this.#maxBytes / 16) this.#bytes = this.#count();
      if (this.#bytes > this.#maxBytes) this.#evict();
    });
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#database.close();
  }

  #evict(): void {
    for (const { bytes } of this.#statements.evict.all() as { bytes: number }[]) this.#bytes -= bytes;
  }

  #count(): number {
    this.#bytesSinceCount = 0;
    return (this.#statements.sum.get() as { bytes: number }).bytes;
  }

  #orSkip<T>(work: () => T): T | undefined {
    if (this.#closed) return undefined;
    try {
      return work();
    } catch {
      this.numSkipped += 1;
      return undefined;
    }
  }
}

function prepareTables(database: DatabaseSync, file: string): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    const { user_version: found } = database.prepare("PRAGMA user_version").get() as { user_version: number };
    const { tables } = database.prepare("SELECT count(*) AS tables FROM sqlite_schema").get() as { tables: number };
    if (tables > 0 && found !== version) {
      throw new WideSeekError("WS_CORRUPT_FILE", `${file} is no reply cache of version ${version}; name another file`, {
        op: "openReplyCache",
        details: { file },
      });
    }
    database.exec(
      `CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
       CREATE INDEX IF NOT EXISTS replies_by_use ON replies (used, bytes);
       PRAGMA user_version = ${version};`,
    );
    database.exec("COMMIT");
  } catch (error) {
    database.exec("ROLLBACK");
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
