// From corpus files to an index folder, in steps that each go on where they were stopped. Owns the order of steps.
import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { invalidInput, makeFolder, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { type CorpusPosition, corpusBytes, readCorpus } from "./corpus-reader.ts";
import { formatVersion, type IndexManifest, indexFiles } from "./index-files.ts";
import { mergeSegments } from "./merge.ts";
import { RecordStore, type RecordTable } from "./record-store.ts";
import { SegmentBuilder, segmentRows } from "./segment.ts";
import { readManifest } from "./term-index.ts";
import { indexTerms } from "./terms.ts";

/** As FTS5 is asked by the embedded tools: a page whose title has the words is nearly always the one that is meant. */
const titleWeight = 5;
const rowsPerTransaction = 5000;
/** Rows between two looks at the abort signal and the clock of the caller. */
const rowsPerStep = 1000;

export interface BuildProgress {
  stage: "read" | "words" | "merge" | "addresses";
  /** In the unit of `total`. */
  done: number;
  total: number | null;
  unit: "bytes" | "passages" | "terms";
}

export interface BuildIndexOptions {
  /** Folder of the index; made when it is not there. */
  directory: string;
  /** Files that are searched. */
  passages: readonly string[];
  /** Files that `access` looks in; none = the passages. */
  pages?: readonly string[] | undefined;
  onProgress?: ((progress: BuildProgress) => void) | undefined;
  /** Stops between two steps; what is done stays. */
  signal?: AbortSignal | undefined;
}

const recordSchema = z.looseObject({
  url: z.string().min(1),
  title: z.string().nullish(),
  contents: z.string(),
});

const sourceSchema = z.strictObject({ name: z.string(), bytes: z.int() });
const sourcesSchema = z.strictObject({ passages: z.array(sourceSchema), pages: z.array(sourceSchema) });
const positionSchema = z.strictObject({ file: z.int(), line: z.int(), byte: z.int() });

/**
 * Builds or goes on building an index. What an earlier call has done is kept, even if it was killed.
 * @throws WS_INVALID_ARGUMENT for bad files, naming file and line, or when the folder is of other files; WS_IO
 */
export async function buildIndex(options: BuildIndexOptions): Promise<IndexManifest> {
  const { directory, signal } = options;
  using store = await ingest(options);
  const files = indexFiles(directory);
  if (existsSync(files.manifest)) return readManifest(directory);
  const numRows = store.count("records");
  const numPages = store.count("pages");
  options.onProgress?.({ stage: "addresses", done: 0, total: null, unit: "passages" });
  store.indexUrls(numPages > 0 ? "pages" : "records");
  const segments = await writeSegments(store, options, numRows);
  signal?.throwIfAborted();
  const facts = mergeSegments(segments, directory, (done) => {
    if (done % 20_000 === 0) options.onProgress?.({ stage: "merge", done, total: null, unit: "terms" });
  });
  if (facts.numIndexed === 0) {
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${directory}: no passage of the corpus has a word to search for`);
  }
  const manifest: IndexManifest = { format: "wideseek-bm25", version: formatVersion, numRows, numPages, ...facts };
  writeFileSync(`${files.manifest}.part`, `${JSON.stringify(manifest)}\n`);
  renameSync(`${files.manifest}.part`, files.manifest);
  rmSync(files.segments, { recursive: true, force: true });
  return manifest;
}

/**
 * Reads the corpus files into the record store of `directory`, from where an earlier call stopped. The caller closes it.
 * @throws as `buildIndex`
 */
export async function ingest(options: BuildIndexOptions): Promise<RecordStore> {
  const { directory, passages, pages = [] } = options;
  if (passages.length === 0) throw new WideSeekError("WS_INVALID_ARGUMENT", "index: name at least one corpus file");
  const sources = { passages: passages.map(sourceOf), pages: pages.map(sourceOf) };
  makeFolder(directory);
  checkOwn(directory);
  const store = RecordStore.create(indexFiles(directory).store);
  try {
    const known = store.getState("sources");
    if (known === undefined) store.setState("sources", sources);
    else if (JSON.stringify(known) !== JSON.stringify(sources)) {
      const message = `${directory}: holds an index of ${describe(known)}, not of ${describe(sources)}; name a new folder`;
      throw new WideSeekError("WS_INVALID_ARGUMENT", message);
    }
    const total = [...sources.passages, ...sources.pages].reduce((sum, { bytes }) => sum + bytes, 0);
    let done = 0;
    for (const [table, paths] of [["records", passages] as const, ["pages", pages] as const]) {
      await readInto(store, table, paths, options, { done, total });
      for (const path of paths) done += corpusBytes(path);
    }
    if (store.count("records") === 0) {
      throw new WideSeekError("WS_INVALID_ARGUMENT", `${passages.join(", ")}: the corpus has no passages`);
    }
    return store;
  } catch (error) {
    store[Symbol.dispose]();
    throw error;
  }
}

/** An index of ours begins with its record store; a folder of anything else is not ours to write to. */
function checkOwn(directory: string): void {
  if (existsSync(indexFiles(directory).store)) return;
  const [first] = readdirSync(directory);
  if (first === undefined) return;
  const message = `${directory}: holds other files (${first}), no index; name a new folder`;
  throw new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "buildIndex", details: { directory } });
}

/** "a.jsonl (120 bytes), pages b.jsonl (7 bytes)" */
function describe(sources: unknown): string {
  const { passages, pages } = sourcesSchema.parse(sources);
  const list = (files: typeof passages): string =>
    files.map(({ name, bytes }) => `${name} (${bytes} bytes)`).join(", ");
  return pages.length === 0 ? list(passages) : `${list(passages)} with the pages ${list(pages)}`;
}

const sourceOf = (path: string): { name: string; bytes: number } => ({
  name: basename(path),
  bytes: corpusBytes(path),
});

async function readInto(
  store: RecordStore,
  table: RecordTable,
  paths: readonly string[],
  { onProgress, signal }: BuildIndexOptions,
  bytes: { done: number; total: number },
): Promise<void> {
  const key = `position of ${table}`;
  const position = positionSchema.parse(store.getState(key) ?? { file: 0, line: 0, byte: 0 });
  let id = store.count(table);
  let before = bytes.done;
  for (const [file, path] of paths.entries()) {
    const size = corpusBytes(path);
    if (file < position.file) {
      before += size;
      continue;
    }
    const from: CorpusPosition = file === position.file ? position : { line: 0, byte: 0 };
    let rows: { url: string; json: string }[] = [];
    const flush = (next: { file: number } & CorpusPosition): void => {
      store.transaction(() => {
        for (const { url, json } of rows) store.add(table, id++, url, json);
        store.setState(key, next);
      });
      rows = [];
    };
    for await (const { value, json, where, next, share } of readCorpus(path, { line: from.line, byte: from.byte })) {
      const record = recordSchema.safeParse(value);
      if (!record.success) throw invalidInput(where, record.error, value);
      rows.push({ url: record.data.url, json });
      if (rows.length < rowsPerTransaction) continue;
      flush({ file, ...next });
      onProgress?.({ stage: "read", done: before + share * size, total: bytes.total, unit: "bytes" });
      signal?.throwIfAborted();
    }
    flush({ file: file + 1, line: 0, byte: 0 });
    before += size;
    onProgress?.({ stage: "read", done: before, total: bytes.total, unit: "bytes" });
  }
}

async function writeSegments(
  store: RecordStore,
  { directory, onProgress, signal }: BuildIndexOptions,
  numRows: number,
): Promise<string[]> {
  const folder = indexFiles(directory).segments;
  makeFolder(folder);
  const finished = new Set(readdirSync(folder));
  const paths: string[] = [];
  for (let first = 0; first < numRows; first += segmentRows) {
    const name = `${String(paths.length).padStart(6, "0")}.segment`;
    const path = join(folder, name);
    paths.push(path);
    if (finished.has(name)) continue;
    const builder = new SegmentBuilder();
    for (const { id, json } of store.records(first, Math.min(first + segmentRows, numRows))) {
      const { title, contents } = JSON.parse(json) as z.output<typeof recordSchema>;
      if (contents.trim() !== "") {
        builder.add(id - first, [
          { terms: indexTerms(title ?? ""), weight: titleWeight },
          { terms: indexTerms(contents), weight: 1 },
        ]);
      }
      if (id % rowsPerStep === 0) {
        onProgress?.({ stage: "words", done: id, total: numRows, unit: "passages" });
        // Gives signals and timers their turn.
        await new Promise((resolve) => setImmediate(resolve));
        signal?.throwIfAborted();
      }
    }
    builder.write(path);
  }
  onProgress?.({ stage: "words", done: numRows, total: numRows, unit: "passages" });
  return paths;
}
