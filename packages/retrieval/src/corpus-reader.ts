// Records of corpus files one by one: JSONL, JSONL.gz or Parquet, from any place on. Owns reading, not checking fields.
import { isUtf8 } from "node:buffer";
import { createReadStream, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { extname } from "node:path";
import { createGunzip } from "node:zlib";
import { errorMessage, WideSeekError } from "@wideseek/spec";

/** Where reading can go on: after this many records, at this byte of the (unpacked) file. */
export interface CorpusPosition {
  line: number;
  byte: number;
}

export interface CorpusRecord {
  value: unknown;
  /** As it stands in the file, or as JSON where the file is not JSON. */
  json: string;
  /** `file:line` (JSONL) or `file, row n`. */
  where: string;
  next: CorpusPosition;
  /** Share of the file that has been read, 0 to 1. */
  share: number;
}

const maxLineBytes = 64 * 2 ** 20;
const newline = 0x0a;

/** @throws WS_IO without such a file, WS_INVALID_ARGUMENT for another kind of file or a broken line, naming it */
export function readCorpus(path: string, from: CorpusPosition): AsyncGenerator<CorpusRecord, void, void> {
  if (/\.jsonl(\.gz)?$/.test(path)) return readLines(path, from);
  if (extname(path) === ".parquet") return readParquet(path, from);
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${path}: must end in .jsonl, .jsonl.gz or .parquet`);
}

/** Bytes on disk. @throws WS_IO */
export function corpusBytes(path: string): number {
  try {
    const facts = statSync(path);
    if (!facts.isFile()) throw new Error("not a file");
    return facts.size;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

async function* readLines(path: string, from: CorpusPosition): AsyncGenerator<CorpusRecord, void, void> {
  const size = corpusBytes(path);
  const packed = path.endsWith(".gz");
  const file = createReadStream(path, { start: packed ? 0 : from.byte, highWaterMark: 1 << 20 });
  const input = packed ? file.pipe(createGunzip()) : file;
  file.once("error", (error) => input.destroy(error));
  // A packed file can only be read from its beginning.
  let skip = packed ? from.byte : 0;
  let { line, byte } = from;
  let rest: Buffer[] = [];
  let restBytes = 0;
  const share = (): number => (size === 0 ? 1 : ((packed ? 0 : from.byte) + file.bytesRead) / size);
  try {
    for await (const data of input as AsyncIterable<Buffer>) {
      let chunk = data;
      if (skip > 0) {
        chunk = data.subarray(Math.min(skip, data.length));
        skip -= data.length - chunk.length;
      }
      let begin = 0;
      for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, begin)) {
        const text = Buffer.concat([...rest, chunk.subarray(begin, end)]);
        begin = end + 1;
        rest = [];
        restBytes = 0;
        line += 1;
        byte += text.length + 1;
        const record = parseLine(text, path, { line, byte }, share());
        if (record !== null) yield record;
      }
      rest.push(chunk.subarray(begin));
      restBytes += chunk.length - begin;
      if (restBytes > maxLineBytes) {
        throw new WideSeekError(
          "WS_INVALID_ARGUMENT",
          `${path}:${line + 1}: the line is longer than ${maxLineBytes} bytes`,
        );
      }
    }
    const last = parseLine(Buffer.concat(rest), path, { line: line + 1, byte: byte + restBytes }, 1);
    if (last !== null) yield last;
  } catch (error) {
    throw error instanceof WideSeekError ? error : unreadable(path, error);
  } finally {
    file.destroy();
  }
}

function parseLine(bytes: Buffer, path: string, next: CorpusPosition, share: number): CorpusRecord | null {
  const where = `${path}:${next.line}`;
  if (!isUtf8(bytes)) throw new WideSeekError("WS_INVALID_ARGUMENT", `${where}: not UTF-8`);
  const json = bytes.toString("utf8").trim();
  if (json === "") return null;
  try {
    return { value: JSON.parse(json), json, where, next, share };
  } catch (cause) {
    const message = `${where}: not JSON: ${errorMessage(cause)}`;
    throw new WideSeekError("WS_INVALID_ARGUMENT", message, { details: { line: next.line }, cause });
  }
}

async function* readParquet(path: string, from: CorpusPosition): AsyncGenerator<CorpusRecord, void, void> {
  corpusBytes(path);
  const [{ parquetMetadataAsync, parquetReadObjects }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  const handle = await open(path, "r");
  try {
    const { size } = await handle.stat();
    const file = {
      byteLength: size,
      slice: async (begin: number, end: number = size): Promise<ArrayBuffer> => {
        const bytes = new ArrayBuffer(end - begin);
        await handle.read(new Uint8Array(bytes), 0, end - begin, begin);
        return bytes;
      },
    };
    const metadata = await parquetMetadataAsync(file);
    const numRows = Number(metadata.num_rows);
    let first = 0;
    // One row group at a time is what is held in memory.
    for (const group of metadata.row_groups) {
      const end = first + Number(group.num_rows);
      if (end > from.line) {
        const begin = Math.max(first, from.line);
        const rows = await parquetReadObjects({ file, metadata, rowStart: begin, rowEnd: end, compressors });
        for (const [offset, value] of rows.entries()) {
          const line = begin + offset + 1;
          const json = JSON.stringify(value, (_, part) => (typeof part === "bigint" ? Number(part) : part));
          yield { value, json, where: `${path}, row ${line}`, next: { line, byte: 0 }, share: line / numRows };
        }
      }
      first = end;
    }
  } catch (error) {
    if (error instanceof WideSeekError) throw error;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${path}: not a readable Parquet file: ${errorMessage(error)}`, {
      cause: error,
    });
  } finally {
    await handle.close();
  }
}

function unreadable(path: string, cause: unknown): WideSeekError {
  return new WideSeekError("WS_IO", `${path}: cannot read the corpus: ${errorMessage(cause)}`, {
    op: "readCorpus",
    details: { path },
    cause,
  });
}
