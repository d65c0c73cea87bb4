// Postings of one block of rows: collected in memory, written as a file sorted by term. Owns the segment format.
import { closeSync, fsyncSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { WideSeekError } from "@wideseek/spec";

/** Rows of one segment: a row's place in its segment fits two bytes. */
export const segmentRows = 65_536;
/** Occurrences of a term in one row are counted up to here; the score has long stopped growing. */
export const maxTermFrequency = 255;

const magic = 0x57537331; // "WSs1"
const headerBytes = 8;
const flushBytes = 1 << 20;

/** Collects rows of one segment; memory grows with its postings only, about 50 MB for rows of 100 words. */
export class SegmentBuilder {
  readonly #ids = new Map<string, number>();
  readonly #lengths = new Uint32Array(segmentRows);
  #lastPosting = new Int32Array(1 << 16).fill(-1);
  #postingTerms = new Uint32Array(1 << 20);
  #postingRows = new Uint16Array(1 << 20);
  #postingFrequencies = new Uint8Array(1 << 20);
  #numPostings = 0;

  /** `row` counts from the segment's first; rows come in rising order. `weight` is what each occurrence counts. */
  add(row: number, fields: readonly { terms: readonly string[]; weight: number }[]): void {
    const firstPosting = this.#numPostings;
    let length = 0;
    for (const { terms, weight } of fields) {
      length += terms.length;
      for (const term of terms) this.#count(row, this.#termId(term), weight, firstPosting);
    }
    this.#lengths[row] = length;
  }

  #termId(term: string): number {
    let id = this.#ids.get(term);
    if (id === undefined) {
      id = this.#ids.size;
      this.#ids.set(term, id);
      if (id >= this.#lastPosting.length) this.#lastPosting = grown(this.#lastPosting, Int32Array, -1);
    }
    return id;
  }

  #count(row: number, id: number, weight: number, firstPosting: number): void {
    const last = this.#lastPosting[id] as number;
    if (last >= firstPosting) {
      const sum = (this.#postingFrequencies[last] as number) + weight;
      this.#postingFrequencies[last] = Math.min(sum, maxTermFrequency);
      return;
    }
    const next = this.#numPostings;
    if (next === this.#postingTerms.length) {
      this.#postingTerms = grown(this.#postingTerms, Uint32Array, 0);
      this.#postingRows = grown(this.#postingRows, Uint16Array, 0);
      this.#postingFrequencies = grown(this.#postingFrequencies, Uint8Array, 0);
    }
    this.#postingTerms[next] = id;
    this.#postingRows[next] = row;
    this.#postingFrequencies[next] = Math.min(weight, maxTermFrequency);
    this.#lastPosting[id] = next;
    this.#numPostings = next + 1;
  }

  /** Writes the segment under a temporary name and renames it, so that a file with this name is whole. */
  write(path: string): void {
    const terms = [...this.#ids.keys()];
    const order = terms.map((_, id) => id).sort((a, b) => ((terms[a] as string) < (terms[b] as string) ? -1 : 1));
    const { starts, sorted } = this.#postingsByTerm(terms.length);
    const temporary = `${path}.part`;
    const file = openSync(temporary, "w");
    try {
      const out = new BufferedWriter(file);
      const header = Buffer.alloc(headerBytes);
      header.writeUInt32LE(magic, 0);
      header.writeUInt32LE(terms.length, 4);
      out.write(header);
      out.write(Buffer.from(this.#lengths.buffer));
      for (const id of order) {
        const name = Buffer.from(terms[id] as string, "utf8");
        const begin = starts[id] as number;
        const count = (starts[id + 1] as number) - begin;
        const entry = Buffer.allocUnsafe(6 + name.length + 3 * count);
        entry.writeUInt16LE(name.length, 0);
        entry.writeUInt32LE(count, 2);
        name.copy(entry, 6);
        let at = 6 + name.length;
        for (let i = 0; i < count; i += 1, at += 2) {
          entry.writeUInt16LE(this.#postingRows[sorted[begin + i] as number] as number, at);
        }
        for (let i = 0; i < count; i += 1, at += 1) {
          entry[at] = this.#postingFrequencies[sorted[begin + i] as number] as number;
        }
        out.write(entry);
      }
      out.flush();
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  }

  /** Counting sort: postings of a term stay in the order of their rows. */
  #postingsByTerm(numTerms: number): { starts: Uint32Array; sorted: Uint32Array } {
    const starts = new Uint32Array(numTerms + 1);
    for (let i = 0; i < this.#numPostings; i += 1) {
      const id = (this.#postingTerms[i] as number) + 1;
      starts[id] = (starts[id] as number) + 1;
    }
    for (let id = 0; id < numTerms; id += 1) starts[id + 1] = (starts[id + 1] as number) + (starts[id] as number);
    const next = starts.slice();
    const sorted = new Uint32Array(this.#numPostings);
    for (let i = 0; i < this.#numPostings; i += 1) {
      const id = this.#postingTerms[i] as number;
      const place = next[id] as number;
      sorted[place] = i;
      next[id] = place + 1;
    }
    return { starts, sorted };
  }
}

/** One term of a segment. The arrays are valid until the next call of `next`. */
export interface SegmentTerm {
  term: string;
  rows: Uint16Array;
  frequencies: Uint8Array;
}

/** Reads a segment from front to end with little memory. */
export class SegmentReader implements Disposable {
  readonly lengths: Uint32Array;
  readonly #path: string;
  readonly #file: number;
  #remaining: number;
  #buffer: Buffer = Buffer.allocUnsafe(1 << 18);
  #begin = 0;
  #end = 0;

  constructor(path: string) {
    this.#path = path;
    this.#file = openSync(path, "r");
    const header = this.#take(headerBytes);
    if (header.readUInt32LE(0) !== magic) throw corrupt(path);
    this.#remaining = header.readUInt32LE(4);
    const lengths = this.#take(segmentRows * 4);
    this.lengths = new Uint32Array(segmentRows);
    for (let row = 0; row < segmentRows; row += 1) this.lengths[row] = lengths.readUInt32LE(row * 4);
  }

  next(): SegmentTerm | null {
    if (this.#remaining === 0) return null;
    this.#remaining -= 1;
    const header = this.#take(6);
    const nameBytes = header.readUInt16LE(0);
    const count = header.readUInt32LE(2);
    const body = this.#take(nameBytes + 3 * count);
    const rows = new Uint16Array(count);
    for (let i = 0; i < count; i += 1) rows[i] = body.readUInt16LE(nameBytes + 2 * i);
    const frequencies = new Uint8Array(body.subarray(nameBytes + 2 * count));
    return { term: body.toString("utf8", 0, nameBytes), rows, frequencies };
  }

  #take(bytes: number): Buffer {
    if (this.#end - this.#begin < bytes) this.#fill(bytes);
    const taken = this.#buffer.subarray(this.#begin, this.#begin + bytes);
    this.#begin += bytes;
    return taken;
  }

  #fill(bytes: number): void {
    const held = this.#end - this.#begin;
    if (bytes > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(bytes * 2);
      this.#buffer.copy(larger, 0, this.#begin, this.#end);
      this.#buffer = larger;
    } else {
      this.#buffer.copy(this.#buffer, 0, this.#begin, this.#end);
    }
    this.#begin = 0;
    this.#end = held;
    while (this.#end < bytes) {
      const read = readSync(this.#file, this.#buffer, this.#end, this.#buffer.length - this.#end, null);
      if (read === 0) throw corrupt(this.#path);
      this.#end += read;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

/** Gathers small writes. The caller owns the file and calls `flush` at the end. */
export class BufferedWriter {
  readonly #file: number;
  #parts: Uint8Array[] = [];
  #held = 0;
  #written = 0;

  constructor(file: number) {
    this.#file = file;
  }

  /** Bytes written or held so far. */
  get position(): number {
    return this.#written + this.#held;
  }

  /** `bytes` must not change afterwards. */
  write(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#held += bytes.length;
    if (this.#held >= flushBytes) this.flush();
  }

  flush(): void {
    const bytes = Buffer.concat(this.#parts);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
    this.#written += bytes.length;
    this.#parts = [];
    this.#held = 0;
  }
}

function grown<T extends Int32Array | Uint32Array | Uint16Array | Uint8Array>(
  array: T,
  make: new (length: number) => T,
  filler: number,
): T {
  const larger = new make(array.length * 2);
  larger.set(array);
  if (filler !== 0) larger.fill(filler, array.length);
  return larger;
}

function corrupt(path: string): WideSeekError {
  return new WideSeekError(
    "WS_CORRUPT_FILE",
    `${path}: not a whole index segment; delete it and run the command again`,
  );
}
