// An index folder open for search: finds terms in the dictionary, reads their postings. Owns files and a bounded cache.
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { LRUCache } from "lru-cache";
import type { RankedRow } from "./best-rows.ts";
import { inverseFrequency, type LengthNorm, lengthNorm, scoreScale } from "./bm25.ts";
import {
  blockTerms,
  boundedCount,
  denseFlag,
  entryBytes,
  type IndexManifest,
  indexFiles,
  manifestSchema,
  postingsHeaderBytes,
  segmentWindows,
} from "./index-files.ts";
import { mapBytes, mappedCount, type TermPostings } from "./postings.ts";
import { segmentRows } from "./segment.ts";
import { queryTerms } from "./terms.ts";
import { rankRows } from "./top-rows.ts";

export interface TermIndexOptions {
  /** Postings kept in memory, in MiB. */
  cacheMiB: number;
  /** Lengths of all rows, where another thread has read them already. */
  lengths?: Uint32Array | undefined;
}

interface DictionaryEntry {
  df: number;
  offset: number;
  bytes: number;
  third: number;
  tenth: number;
}

export class TermIndex implements Disposable {
  readonly manifest: IndexManifest;
  readonly #lengths: Uint32Array;
  readonly #norm: LengthNorm;
  readonly #firstTerms: string[] = [];
  readonly #blockOffsets: number[] = [];
  readonly #files: { dictionary: number; postings: number };
  readonly #terms: LRUCache<string, TermPostings>;

  /** @throws WS_IO without an index, WS_CORRUPT_FILE when it cannot be read */
  constructor(directory: string, { cacheMiB, lengths }: TermIndexOptions) {
    const files = indexFiles(directory);
    this.manifest = readManifest(directory);
    try {
      this.#lengths = lengths ?? readLengths(directory);
      const { numIndexed, totalLength } = this.manifest;
      this.#norm = lengthNorm(totalLength / numIndexed);
      this.#readBlocks(readFileSync(files.blocks));
      this.#files = { dictionary: openSync(files.dictionary, "r"), postings: openSync(files.postings, "r") };
    } catch (cause) {
      throw new WideSeekError("WS_CORRUPT_FILE", `${directory}: not a whole index: ${errorMessage(cause)}`, { cause });
    }
    this.#terms = new LRUCache({
      maxSize: cacheMiB * 2 ** 20,
      sizeCalculation: memoryOf,
    });
  }

  /** The best `count` rows, best first; equal scores in the order of the corpus. */
  search(query: string, count: number): RankedRow[] {
    const terms: TermPostings[] = [];
    for (const term of queryTerms(query)) {
      const postings = this.#postings(term);
      if (postings !== null) terms.push(postings);
    }
    return rankRows(terms, count, this.#lengths, this.#norm);
  }

  [Symbol.dispose](): void {
    closeSync(this.#files.dictionary);
    closeSync(this.#files.postings);
  }

  #postings(term: string): TermPostings | null {
    const known = this.#terms.get(term);
    if (known !== undefined) return known;
    const entry = this.#find(term);
    if (entry === null) return null;
    const bytes = readAt(this.#files.postings, entry.offset, entry.bytes);
    const postings = unpackPostings(bytes, entry, this.manifest.numIndexed);
    this.#terms.set(term, postings);
    return postings;
  }

  #find(term: string): DictionaryEntry | null {
    let low = 0;
    let high = this.#firstTerms.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#firstTerms[middle] as string) <= term) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return null;
    const begin = this.#blockOffsets[low - 1] as number;
    const end = this.#blockOffsets[low];
    // The last block ends with the file; a read beyond it is short.
    const block = readAt(this.#files.dictionary, begin, end === undefined ? blockTerms * 512 : end - begin, true);
    const name = Buffer.from(term, "utf8");
    for (let at = 0; at + 2 < block.length; ) {
      const nameBytes = block.readUInt16LE(at);
      const facts = at + 2 + nameBytes;
      if (nameBytes === name.length && block.compare(name, 0, nameBytes, at + 2, facts) === 0) {
        return {
          df: block.readUInt32LE(facts),
          offset: block.readDoubleLE(facts + 4),
          bytes: block.readUInt32LE(facts + 12),
          third: block.readFloatLE(facts + 16),
          tenth: block.readFloatLE(facts + 20),
        };
      }
      at = facts + entryBytes;
    }
    return null;
  }

  #readBlocks(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const nameBytes = bytes.readUInt16LE(at);
      const offset = at + 2 + nameBytes;
      this.#firstTerms.push(bytes.toString("utf8", at + 2, offset));
      this.#blockOffsets.push(bytes.readDoubleLE(offset));
      at = offset + 8;
    }
  }
}

export function readManifest(directory: string): IndexManifest {
  const path = indexFiles(directory).manifest;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const hint = "no finished index; make one with `wideseek index`, which goes on where it was stopped";
    throw new WideSeekError("WS_IO", `${directory}: ${hint}`, { cause });
  }
  try {
    return manifestSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${path}: not an index of this version; build it again`, { cause });
  }
}

/** Rows' lengths in shared memory, so that all threads use one copy. */
export function readLengths(directory: string): Uint32Array {
  const bytes = readFileSync(indexFiles(directory).lengths);
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  return new Uint32Array(shared.buffer);
}

/** Bytes, with the maps that look-ups may add. */
function memoryOf({ rows, frequencies, counts, dense }: TermPostings): number {
  let numMaps = 0;
  for (let i = 0; i < counts.length; i += 1) {
    if (dense[i] === 0 && (counts[i] as number) >= mappedCount) numMaps += 1;
  }
  return rows.byteLength + frequencies.byteLength + numMaps * mapBytes + 500;
}

function readAt(file: number, offset: number, bytes: number, mayBeShort = false): Buffer {
  // A buffer of its own: the views on it must start at a multiple of their element's size.
  const buffer = Buffer.allocUnsafeSlow(bytes);
  let read = 0;
  while (read < bytes) {
    const got = readSync(file, buffer, read, bytes - read, offset + read);
    if (got === 0) break;
    read += got;
  }
  if (read < bytes && !mayBeShort) throw new WideSeekError("WS_CORRUPT_FILE", "the index ends before its postings do");
  return buffer.subarray(0, read);
}

function unpackPostings(bytes: Buffer, entry: DictionaryEntry, numIndexed: number): TermPostings {
  const numSegments = bytes.readUInt32LE(0);
  const segments = new Uint32Array(numSegments);
  const counts = new Uint32Array(numSegments);
  const dense = new Uint8Array(numSegments);
  const highest = new Float32Array(numSegments);
  const rowOffsets = new Uint32Array(numSegments);
  const frequencyOffsets = new Uint32Array(numSegments);
  const boundOffsets = new Uint32Array(numSegments);
  let numBounds = 0;
  let numRows = 0;
  let numFrequencies = 0;
  for (let i = 0; i < numSegments; i += 1) {
    const at = 4 + postingsHeaderBytes * i;
    const count = bytes.readUInt32LE(at + 4);
    const isDense = count >= denseFlag;
    segments[i] = bytes.readUInt32LE(at);
    counts[i] = isDense ? count - denseFlag : count;
    dense[i] = isDense ? 1 : 0;
    highest[i] = bytes.readFloatLE(at + 8);
    boundOffsets[i] = numBounds;
    if ((counts[i] as number) >= boundedCount) numBounds += segmentWindows;
    rowOffsets[i] = numRows;
    frequencyOffsets[i] = numFrequencies;
    numRows += isDense ? 0 : count;
    numFrequencies += isDense ? segmentRows : count;
  }
  const boundsAt = 4 + postingsHeaderBytes * numSegments;
  const rowsAt = boundsAt + numBounds;
  return {
    scale: scoreScale(inverseFrequency(numIndexed, entry.df)),
    third: entry.third,
    tenth: entry.tenth,
    segments,
    counts,
    dense,
    highest,
    bounds: new Uint8Array(bytes.buffer, boundsAt, numBounds),
    boundOffsets,
    rowOffsets,
    frequencyOffsets,
    rows: new Uint16Array(bytes.buffer, rowsAt, numRows),
    frequencies: new Uint8Array(bytes.buffer, rowsAt + 2 * numRows, numFrequencies),
    maps: [],
  };
}
