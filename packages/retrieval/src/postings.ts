// Postings of a term in memory, and how often a row has it. Owns no ranking.
import { boundedCount, windowShift } from "./index-files.ts";
import { segmentRows } from "./segment.ts";

/** Postings of one term, one part for each segment that has it; parts are in the order of their segments. */
export interface TermPostings {
  /** See `scoreScale`. */
  scale: number;
  /** Lower bounds of the third and the tenth best score of this term alone; 0 when it has fewer rows. */
  third: number;
  tenth: number;
  segments: Uint32Array;
  counts: Uint32Array;
  /** 1 where `frequencies` has a byte for every row of the segment and `rows` has nothing. */
  dense: Uint8Array;
  /** Upper bounds of this term's score in each segment. */
  highest: Float32Array;
  /**
   * Of parts with at least `boundedCount` postings, a byte for each window: its best score, as a share of `highest` in
   * units of 1/255, rounded up.
   */
  bounds: Uint8Array;
  boundOffsets: Uint32Array;
  rowOffsets: Uint32Array;
  frequencyOffsets: Uint32Array;
  rows: Uint16Array;
  frequencies: Uint8Array;
  /** Of segments with at least `mappedCount` postings, made when they are first looked up in. */
  maps: (RowMap | undefined)[];
}

/** Which rows of a segment a term has, and how many of them come before each 32 rows. */
export interface RowMap {
  bits: Uint32Array;
  ranks: Uint16Array;
}

/** From here on a look-up in a map (one or two reads) is much faster than a search; below, a map is out of proportion. */
export const mappedCount = 2048;
/** Bytes of a map. */
export const mapBytes: number = (segmentRows / 32) * 6;

/** The postings of a term in one segment, with all that the inner loops need within one step. */
export interface Part {
  scale: number;
  highest: number;
  isDense: boolean;
  rows: Uint16Array;
  /** Where its rows begin and end in `rows`; nothing when dense. */
  begin: number;
  end: number;
  /** A place in `rows` that is not behind the window at hand: windows are visited in order. */
  cursor: number;
  /** The window whose beginning `cursor` was last moved to by a look-up. */
  window: number;
  frequencies: Uint8Array;
  frequenciesAt: number;
  bounds: Uint8Array;
  /** -1 when it has too few postings for bounds. */
  boundsAt: number;
  /** Empty when it has too few postings for a map. */
  bits: Uint32Array;
  ranks: Uint16Array;
}

const noMap: RowMap = { bits: new Uint32Array(0), ranks: new Uint16Array(0) };

export function partOf(term: TermPostings, index: number): Part {
  const begin = term.rowOffsets[index] as number;
  const count = term.counts[index] as number;
  const isDense = term.dense[index] === 1;
  let map = noMap;
  if (!isDense && count >= mappedCount) map = term.maps[index] ??= mapRows(term.rows, begin, count);
  return {
    scale: term.scale,
    highest: term.highest[index] as number,
    isDense,
    rows: term.rows,
    begin,
    end: isDense ? begin : begin + count,
    cursor: begin,
    window: -1,
    frequencies: term.frequencies,
    frequenciesAt: term.frequencyOffsets[index] as number,
    bounds: term.bounds,
    boundsAt: count >= boundedCount ? (term.boundOffsets[index] as number) : -1,
    bits: map.bits,
    ranks: map.ranks,
  };
}

/** How often the term occurs in a row of its segment; 0 when it does not. */
export function frequencyOf(part: Part, row: number): number {
  if (part.isDense) return part.frequencies[part.frequenciesAt + row] as number;
  const { bits } = part;
  if (bits.length > 0) {
    const word = bits[row >> 5] as number;
    const bit = 1 << (row & 31);
    if ((word & bit) === 0) return 0;
    const rank = (part.ranks[row >> 5] as number) + bitCount(word & (bit - 1));
    return part.frequencies[part.frequenciesAt + rank] as number;
  }
  const { rows, begin, end } = part;
  const found = firstAtLeast(rows, begin, end, row);
  return found < end && rows[found] === row ? (part.frequencies[part.frequenciesAt + found - begin] as number) : 0;
}

/** As `frequencyOf`, for a row of `window`; only for parts whose postings there have not been walked. */
export function frequencyInWindow(part: Part, row: number, window: number): number {
  if (part.isDense || part.bits.length > 0) return frequencyOf(part, row);
  const { rows, begin, end } = part;
  if (part.window !== window) {
    part.window = window;
    part.cursor = nextAtLeast(rows, part.cursor, end, window << windowShift);
  }
  const found = nextAtLeast(rows, part.cursor, end, row);
  return found < end && rows[found] === row ? (part.frequencies[part.frequenciesAt + found - begin] as number) : 0;
}

function mapRows(rows: Uint16Array, begin: number, count: number): RowMap {
  const bits = new Uint32Array(segmentRows / 32);
  const ranks = new Uint16Array(segmentRows / 32);
  for (let i = begin; i < begin + count; i += 1) {
    const row = rows[i] as number;
    bits[row >> 5] = (bits[row >> 5] as number) | (1 << (row & 31));
  }
  let rank = 0;
  for (let word = 0; word < bits.length; word += 1) {
    ranks[word] = rank;
    rank += bitCount(bits[word] as number);
  }
  return { bits, ranks };
}

function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const nibbles = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** As `firstAtLeast`, fast where the place is near `begin`. */
export function nextAtLeast(rows: Uint16Array, begin: number, end: number, row: number): number {
  let low = begin;
  let step = 1;
  while (low + step < end && (rows[low + step] as number) < row) {
    low += step;
    step *= 2;
  }
  return firstAtLeast(rows, low, Math.min(end, low + step + 1), row);
}

/** The first place from `begin` to `end` whose row is at least `row`; `end` if there is none. */
export function firstAtLeast(rows: Uint16Array, begin: number, end: number, row: number): number {
  let low = begin;
  let high = end;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as number) < row) low = middle + 1;
    else high = middle;
  }
  return low;
}
