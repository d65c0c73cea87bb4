// Joins segments into the files that are searched: dictionary, postings with score bounds, lengths. Owns no text.
import { closeSync, fsyncSync, openSync, renameSync } from "node:fs";
import { inverseFrequency, type LengthNorm, lengthNorm, scoreScale } from "./bm25.ts";
import {
  blockTerms,
  boundedCount,
  denseCount,
  denseFlag,
  entryBytes,
  indexFiles,
  postingsHeaderBytes,
  segmentWindows,
  windowShift,
} from "./index-files.ts";
import { BufferedWriter, SegmentReader, type SegmentTerm, segmentRows } from "./segment.ts";

export interface MergedFacts {
  numIndexed: number;
  totalLength: number;
  numTerms: number;
}

const windowBest = new Float64Array(segmentWindows);
/** Bounds are stored as 32-bit floats; this keeps them on the safe side of the exact score. */
const slack = 1e-6;

/**
 * Merges `segmentPaths` (rows 0 to 65535, then the next 65536, ...) into the index files of `directory`. Holds one
 * term's postings and a read buffer a segment. `onTerm` is told each finished term's number.
 */
export function mergeSegments(
  segmentPaths: readonly string[],
  directory: string,
  onTerm?: (done: number) => void,
): MergedFacts {
  using readers = new DisposableStack();
  const segments = segmentPaths.map((path) => readers.use(new SegmentReader(path)));
  let numIndexed = 0;
  let totalLength = 0;
  for (const { lengths } of segments) {
    for (const length of lengths) {
      if (length > 0) numIndexed += 1;
      totalLength += length;
    }
  }
  const norm = lengthNorm(numIndexed === 0 ? 0 : totalLength / numIndexed);
  const files = indexFiles(directory);
  writeWhole(files.lengths, (out) => {
    for (const { lengths } of segments) out.write(Buffer.from(lengths.buffer));
  });
  let numTerms = 0;
  writeWhole(files.postings, (postings) => {
    writeWhole(files.dictionary, (dictionary) => {
      writeWhole(files.blocks, (blocks) => {
        for (const { term, parts } of termsInOrder(segments)) {
          const name = Buffer.from(term, "utf8");
          if (numTerms % blockTerms === 0) blocks.write(blockEntry(name, dictionary.position));
          const { bytes, df, third, tenth } = packPostings(parts, segments, numIndexed, norm);
          dictionary.write(dictionaryEntry(name, df, postings.position, bytes.length, third, tenth));
          postings.write(bytes);
          numTerms += 1;
          onTerm?.(numTerms);
        }
      });
    });
  });
  return { numIndexed, totalLength, numTerms };
}

interface TermPart extends SegmentTerm {
  segment: number;
}

/** Every term of all segments once, in string order, with its parts in the order of their segments. */
function* termsInOrder(segments: readonly SegmentReader[]): Generator<{ term: string; parts: TermPart[] }> {
  const heap: TermPart[] = [];
  const before = (a: TermPart, b: TermPart): boolean => a.term < b.term || (a.term === b.term && a.segment < b.segment);
  const push = (part: TermPart): void => {
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(part, heap[parent] as TermPart)) break;
      heap[at] = heap[parent] as TermPart;
      at = parent;
    }
    heap[at] = part;
  };
  const pop = (): TermPart => {
    const top = heap[0] as TermPart;
    const last = heap.pop() as TermPart;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as TermPart, heap[child] as TermPart)) child += 1;
      if (!before(heap[child] as TermPart, last)) break;
      heap[at] = heap[child] as TermPart;
      at = child;
    }
    heap[at] = last;
    return top;
  };
  const refill = (segment: number): void => {
    const next = (segments[segment] as SegmentReader).next();
    if (next !== null) push({ segment, ...next });
  };
  for (let segment = 0; segment < segments.length; segment += 1) refill(segment);
  while (heap.length > 0) {
    const { term } = heap[0] as TermPart;
    const parts: TermPart[] = [];
    while (heap.length > 0 && (heap[0] as TermPart).term === term) {
      const part = pop();
      parts.push(part);
      refill(part.segment);
    }
    yield { term, parts };
  }
}

function packPostings(
  parts: readonly TermPart[],
  segments: readonly SegmentReader[],
  numIndexed: number,
  norm: LengthNorm,
): { bytes: Buffer; df: number; third: number; tenth: number } {
  let df = 0;
  let size = 4;
  for (const { rows } of parts) {
    df += rows.length;
    size += postingsHeaderBytes + (rows.length > denseCount ? segmentRows : 3 * rows.length);
    if (rows.length >= boundedCount) size += segmentWindows;
  }
  const scale = scoreScale(inverseFrequency(numIndexed, df));
  const best = new BestScores();
  const bytes = Buffer.alloc(size);
  bytes.writeUInt32LE(parts.length, 0);
  const sparseRows = parts.reduce((sum, { rows }) => sum + (rows.length > denseCount ? 0 : rows.length), 0);
  let boundsAt = 4 + postingsHeaderBytes * parts.length;
  let rowsAt = boundsAt + segmentWindows * parts.filter(({ rows }) => rows.length >= boundedCount).length;
  let frequenciesAt = rowsAt + 2 * sparseRows;
  for (const [index, { segment, rows, frequencies }] of parts.entries()) {
    const { lengths } = segments[segment] as SegmentReader;
    const dense = rows.length > denseCount;
    let highest = 0;
    windowBest.fill(0);
    for (let i = 0; i < rows.length; i += 1) {
      const row = rows[i] as number;
      const frequency = frequencies[i] as number;
      const score = (scale * frequency) / (frequency + norm.base + norm.slope * (lengths[row] as number));
      if (score > highest) highest = score;
      const window = row >> windowShift;
      if (score > (windowBest[window] as number)) windowBest[window] = score;
      best.add(score);
      if (dense) bytes[frequenciesAt + row] = frequency;
    }
    const header = 4 + postingsHeaderBytes * index;
    bytes.writeUInt32LE(segment, header);
    bytes.writeUInt32LE(dense ? rows.length + denseFlag : rows.length, header + 4);
    bytes.writeFloatLE(highest * (1 + slack), header + 8);
    if (rows.length >= boundedCount) {
      const unit = bytes.readFloatLE(header + 8) / 255;
      for (const best of windowBest) bytes[boundsAt++] = Math.min(255, Math.ceil(best / unit));
    }
    if (!dense) {
      for (let i = 0; i < rows.length; i += 1, rowsAt += 2) bytes.writeUInt16LE(rows[i] as number, rowsAt);
      bytes.set(frequencies, frequenciesAt);
    }
    frequenciesAt += dense ? segmentRows : rows.length;
  }
  return { bytes, df, third: best.at(3) * (1 - slack), tenth: best.at(10) * (1 - slack) };
}

/** The ten highest of many numbers. */
class BestScores {
  /** Highest first. */
  readonly #scores: number[] = [];

  add(score: number): void {
    const scores = this.#scores;
    if (scores.length === 10 && score <= (scores[9] as number)) return;
    let at = scores.length;
    while (at > 0 && (scores[at - 1] as number) < score) at -= 1;
    scores.splice(at, 0, score);
    if (scores.length > 10) scores.pop();
  }

  /** The score at `rank`, counted from 1; 0 when there are fewer. */
  at(rank: number): number {
    return this.#scores[rank - 1] ?? 0;
  }
}

function dictionaryEntry(
  name: Buffer,
  df: number,
  offset: number,
  bytes: number,
  third: number,
  tenth: number,
): Buffer {
  const entry = Buffer.allocUnsafe(2 + name.length + entryBytes);
  entry.writeUInt16LE(name.length, 0);
  name.copy(entry, 2);
  const at = 2 + name.length;
  entry.writeUInt32LE(df, at);
  entry.writeDoubleLE(offset, at + 4);
  entry.writeUInt32LE(bytes, at + 12);
  entry.writeFloatLE(third, at + 16);
  entry.writeFloatLE(tenth, at + 20);
  return entry;
}

function blockEntry(name: Buffer, offset: number): Buffer {
  const entry = Buffer.allocUnsafe(10 + name.length);
  entry.writeUInt16LE(name.length, 0);
  name.copy(entry, 2);
  entry.writeDoubleLE(offset, 2 + name.length);
  return entry;
}

/** Writes under a temporary name: a file with its own name is whole. */
function writeWhole(path: string, fill: (out: BufferedWriter) => void): void {
  const temporary = `${path}.part`;
  const file = openSync(temporary, "w");
  try {
    const out = new BufferedWriter(file);
    fill(out);
    out.flush();
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
