// Records and pages of a corpus on disk, in the order they came, and how far reading has got. Owns its SQLite file.
import { existsSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { errorMessage, WideSeekError } from "@wideseek/spec";

// "WSrs" as a big-endian integer: tells our files from other SQLite files.
const applicationId = 0x57537273;
const formatVersion = 1;

const schema = `
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${formatVersion};
  CREATE TABLE IF NOT EXISTS records(id INTEGER PRIMARY KEY, url TEXT NOT NULL, json TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS pages(id INTEGER PRIMARY KEY, url TEXT NOT NULL, json TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS state(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;`;

export type RecordTable = "records" | "pages";

export interface StoredRecord {
  id: number;
  json: string;
}

/** Ids count from 0 in the order of the corpus files. */
export class RecordStore implements Disposable {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  private constructor(path: string, database: DatabaseSync) {
    this.#path = path;
    this.#database = database;
  }

  /** Opens the store for writing, making it when it is not there. @throws WS_IO, WS_CORRUPT_FILE */
  static create(path: string): RecordStore {
    const isNew = !existsSync(path);
    return RecordStore.#open(path, false, (database) => {
      // Readers and a killed writer leave a whole file behind.
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
      if (isNew || database.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.n === 0) database.exec(schema);
    });
  }

  /** @throws WS_IO without a file, WS_CORRUPT_FILE when it is not a record store */
  static openReadOnly(path: string): RecordStore {
    if (!existsSync(path)) throw new WideSeekError("WS_IO", `${path}: no such file; build the index first`);
    return RecordStore.#open(path, true, () => undefined);
  }

  static #open(path: string, readOnly: boolean, prepare: (database: DatabaseSync) => void): RecordStore {
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(path, { readOnly });
      prepare(database);
      const id = database.prepare("PRAGMA application_id").get()?.application_id;
      const version = database.prepare("PRAGMA user_version").get()?.user_version;
      if (id !== applicationId || version !== formatVersion) throw new Error("not a record store of this version");
      return new RecordStore(path, database);
    } catch (cause) {
      database?.close();
      throw new WideSeekError("WS_CORRUPT_FILE", `${path}: ${errorMessage(cause)}; build the index again`, { cause });
    }
  }

  /** All or nothing. */
  transaction(fill: () => void): void {
    this.#database.exec("BEGIN");
    try {
      fill();
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw this.#failure(error);
    }
  }

  add(table: RecordTable, id: number, url: string, json: string): void {
    this.#prepare(`INSERT INTO ${table}(id, url, json) VALUES (?, ?, ?)`).run(id, url, json);
  }

  /** Rows are numbered without gaps, so this is also the next id. */
  count(table: RecordTable): number {
    return Number(this.#prepare(`SELECT coalesce(max(id) + 1, 0) AS n FROM ${table}`).get()?.n);
  }

  /** Makes look-ups by address fast. Idempotent; minutes for millions of rows. */
  indexUrls(table: RecordTable): void {
    this.#database.exec(`CREATE INDEX IF NOT EXISTS ${table}_url ON ${table}(url)`);
  }

  getState(key: string): unknown {
    const row = this.#prepare("SELECT value FROM state WHERE key = ?").get(key);
    return row === undefined ? undefined : JSON.parse(String(row.value));
  }

  setState(key: string, value: unknown): void {
    this.#prepare("INSERT OR REPLACE INTO state(key, value) VALUES (?, ?)").run(key, JSON.stringify(value));
  }

  /** JSON of a record. @throws WS_CORRUPT_FILE when there is none */
  record(id: number): string {
    const row = this.#prepare("SELECT json FROM records WHERE id = ?").get(id);
    if (row === undefined) throw new WideSeekError("WS_CORRUPT_FILE", `${this.#path}: record ${id} is missing`);
    return String(row.json);
  }

  /** Records from `first` to before `end`, in order. */
  *records(first: number, end: number): Generator<StoredRecord, void, void> {
    const rows = this.#prepare("SELECT id, json FROM records WHERE id >= ? AND id < ? ORDER BY id").iterate(first, end);
    for (const { id, json } of rows) yield { id: Number(id), json: String(json) };
  }

  /**
   * The page at an address as JSON, or null. "index.php/" in an address means "index.php?title=", as the published
   * server has it; several records of one address are one page, their contents joined.
   */
  page(table: RecordTable, url: string): string | null {
    const find = (key: string): string[] =>
      this.#prepare(`SELECT json FROM ${table} WHERE url = ? ORDER BY id`)
        .all(key)
        .map(({ json }) => String(json));
    let found = find(url);
    if (found.length === 0 && url.includes("index.php/")) {
      found = find(url.replaceAll("index.php/", "index.php?title="));
    }
    if (found.length <= 1) return found[0] ?? null;
    const parts = found.map((json) => JSON.parse(json) as { contents: string });
    return JSON.stringify({ ...parts[0], contents: parts.map(({ contents }) => contents).join("\n\n") });
  }

  [Symbol.dispose](): void {
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #failure(error: unknown): WideSeekError {
    if (error instanceof WideSeekError) return error;
    return new WideSeekError("WS_IO", `${this.#path}: ${errorMessage(error)}`, { cause: error });
  }
}
