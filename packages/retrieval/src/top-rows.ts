// The best rows of a query: MaxScore over postings with a bound for each window of rows. Exact: what it skips cannot be among the best.
import type { LengthNorm } from "./bm25.ts";
import { boundedCount, segmentWindows, windowRows, windowShift } from "./index-files.ts";
import { segmentRows } from "./segment.ts";
import { maxQueryTerms } from "./terms.ts";

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
export const mappedCount = 512;
/** Bytes of a map. */
export const mapBytes: number = (segmentRows / 32) * 6;

export interface RankedRow {
  row: number;
  score: number;
}

/** Sums in another order may differ by this factor; whoever comes this near is computed exactly. */
const slack = 1 + 1e-9;

/** Rows of the rarest term that are scored in full to begin with, and rows that they are chosen from. */
const sampledRows = 32;
const maxScannedRows = 16_384;

// One search runs at a time on a thread, so these are shared by all. Zero between searches.
const sums = new Float64Array(segmentRows);
const touched = new Uint16Array(segmentRows);
const windowSums = new Float64Array(segmentWindows);
const windowBounds = new Float64Array(segmentWindows * maxQueryTerms);

/** The postings of a term in one segment, with all that the inner loops need within one step. */
interface Part {
  scale: number;
  highest: number;
  isDense: boolean;
  rows: Uint16Array;
  /** Where its rows begin and end in `rows`; nothing when dense. */
  begin: number;
  end: number;
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

function partOf(term: TermPostings, index: number): Part {
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
    frequencies: term.frequencies,
    frequenciesAt: term.frequencyOffsets[index] as number,
    bounds: term.bounds,
    boundsAt: count >= boundedCount ? (term.boundOffsets[index] as number) : -1,
    bits: map.bits,
    ranks: map.ranks,
  };
}

/** The best `count` rows, best first; equal scores in the order of rows. `terms` in the order they are summed. */
export function rankRows(
  terms: readonly TermPostings[],
  count: number,
  lengths: Uint32Array,
  norm: LengthNorm,
): RankedRow[] {
  const top = new TopRows(count, lowerBound(terms, count, lengths, norm));
  const next = new Uint32Array(terms.length);
  for (;;) {
    let segment = -1;
    for (const [i, { segments }] of terms.entries()) {
      const candidate = segments[next[i] as number];
      if (candidate !== undefined && (segment === -1 || candidate < segment)) segment = candidate;
    }
    if (segment === -1) return top.sorted();
    const parts: Part[] = [];
    for (const [i, term] of terms.entries()) {
      const index = next[i] as number;
      if (term.segments[index] !== segment) continue;
      parts.push(partOf(term, index));
      next[i] = index + 1;
    }
    rankSegment(parts, segment, top, lengths, norm);
  }
}

/**
 * A score that at least `count` rows reach: by one term alone, or as scored in full for some rows of the rarest term.
 * The nearer it is to the final threshold, the more is skipped from the first segment on.
 */
function lowerBound(terms: readonly TermPostings[], count: number, lengths: Uint32Array, norm: LengthNorm): number {
  let bound = 0;
  let rarest: TermPostings | undefined;
  for (const term of terms) {
    const reached = count <= 3 ? term.third : count <= 10 ? term.tenth : 0;
    if (reached > bound) bound = reached;
    if (rarest === undefined || term.scale > rarest.scale) rarest = term;
  }
  if (rarest === undefined || terms.length === 1) return bound;
  const samples = new TopRows(Math.max(count, sampledRows), 0);
  let scanned = 0;
  for (let index = 0; index < rarest.segments.length && scanned < maxScannedRows; index += 1) {
    const first = (rarest.segments[index] as number) * segmentRows;
    if ((rarest.highest[index] as number) <= samples.threshold) continue;
    scanned += rarest.counts[index] as number;
    scan(partOf(rarest, index), first, lengths, norm, (row, score) => samples.add(first + row, score));
  }
  const full = new TopRows(count, 0);
  for (const { row } of samples.sorted()) full.add(row, scoreOf(row, terms, lengths, norm));
  return Math.max(bound, full.threshold);
}

function scoreOf(row: number, terms: readonly TermPostings[], lengths: Uint32Array, { base, slope }: LengthNorm) {
  const segment = Math.floor(row / segmentRows);
  const length = base + slope * (lengths[row] as number);
  let score = 0;
  for (const term of terms) {
    const index = segmentIndex(term.segments, segment);
    const frequency = index === -1 ? 0 : frequencyOf(partOf(term, index), row - segment * segmentRows);
    if (frequency > 0) score += (term.scale * frequency) / (frequency + length);
  }
  return score;
}

function segmentIndex(segments: Uint32Array, segment: number): number {
  let low = 0;
  let high = segments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((segments[middle] as number) < segment) low = middle + 1;
    else high = middle;
  }
  return segments[low] === segment ? low : -1;
}

function rankSegment(
  parts: readonly Part[],
  segment: number,
  top: TopRows,
  lengths: Uint32Array,
  norm: LengthNorm,
): void {
  const byHighest = [...parts].sort((a, b) => a.highest - b.highest);
  let total = 0;
  for (const { highest } of byHighest) total += highest;
  if (total * slack <= top.threshold) return;
  windowSums.fill(0);
  for (const [place, part] of byHighest.entries()) addWindowBounds(part, place);
  for (let window = 0; window < segmentWindows; window += 1) {
    if ((windowSums[window] as number) * slack > top.threshold) {
      rankWindow(parts, byHighest, window, segment * segmentRows, top, lengths, norm);
    }
  }
}

/** The term's bound in each window, to `windowBounds` at `place` and added to `windowSums`. */
function addWindowBounds({ rows, begin, end, bounds, boundsAt, highest }: Part, place: number): void {
  const at = place * segmentWindows;
  if (boundsAt >= 0) {
    const unit = highest / 255;
    for (let window = 0; window < segmentWindows; window += 1) {
      const bound = unit * (bounds[boundsAt + window] as number);
      windowBounds[at + window] = bound;
      windowSums[window] = (windowSums[window] as number) + bound;
    }
    return;
  }
  windowBounds.fill(0, at, at + segmentWindows);
  for (let i = begin; i < end; i += 1) {
    const window = (rows[i] as number) >> windowShift;
    if (windowBounds[at + window] !== 0) continue;
    windowBounds[at + window] = highest;
    windowSums[window] = (windowSums[window] as number) + highest;
  }
}

function rankWindow(
  parts: readonly Part[],
  byHighest: readonly Part[],
  window: number,
  first: number,
  top: TopRows,
  lengths: Uint32Array,
  norm: LengthNorm,
): void {
  // Rows that only have terms before `firstEssential` cannot reach the threshold: the rest must find the candidates.
  let optional = 0;
  let firstEssential = 0;
  for (; firstEssential < byHighest.length; firstEssential += 1) {
    const sum = optional + (windowBounds[firstEssential * segmentWindows + window] as number);
    if (sum * slack > top.threshold) break;
    optional = sum;
  }
  let numTouched = 0;
  for (let place = firstEssential; place < byHighest.length; place += 1) {
    if (windowBounds[place * segmentWindows + window] === 0) continue;
    numTouched = accumulate(byHighest[place] as Part, window, first, lengths, norm, numTouched);
  }
  candidates: for (let i = 0; i < numTouched; i += 1) {
    const row = touched[i] as number;
    let sum = sums[row] as number;
    sums[row] = 0;
    let rest = optional;
    if ((sum + rest) * slack <= top.threshold) continue;
    const length = norm.base + norm.slope * (lengths[first + row] as number);
    for (let place = firstEssential - 1; place >= 0; place -= 1) {
      const bound = windowBounds[place * segmentWindows + window] as number;
      if (bound === 0) continue;
      rest -= bound;
      const part = byHighest[place] as Part;
      const frequency = frequencyOf(part, row);
      if (frequency > 0) sum += (part.scale * frequency) / (frequency + length);
      if ((sum + rest) * slack <= top.threshold) continue candidates;
    }
    // Always in the order of the query, so that a row's score depends on nothing but the row.
    let score = 0;
    for (const part of parts) {
      const frequency = frequencyOf(part, row);
      if (frequency > 0) score += (part.scale * frequency) / (frequency + length);
    }
    top.add(first + row, score);
  }
}

/** Adds a term's scores in a window to `sums`; returns how many rows have been touched. */
function accumulate(
  { scale, rows, frequencies, frequenciesAt, isDense, begin: rowsAt, end }: Part,
  window: number,
  first: number,
  lengths: Uint32Array,
  { base, slope }: LengthNorm,
  alreadyTouched: number,
): number {
  let numTouched = alreadyTouched;
  const firstRow = window << windowShift;
  const endRow = firstRow + windowRows;
  if (isDense) {
    for (let row = firstRow; row < endRow; row += 1) {
      const frequency = frequencies[frequenciesAt + row] as number;
      if (frequency === 0) continue;
      const sum = sums[row] as number;
      if (sum === 0) touched[numTouched++] = row;
      sums[row] = sum + (scale * frequency) / (frequency + base + slope * (lengths[first + row] as number));
    }
    return numTouched;
  }
  const begin = firstAtLeast(rows, rowsAt, end, firstRow);
  for (let i = begin; i < end; i += 1) {
    const row = rows[i] as number;
    if (row >= endRow) break;
    const frequency = frequencies[frequenciesAt + i - rowsAt] as number;
    const sum = sums[row] as number;
    if (sum === 0) touched[numTouched++] = row;
    sums[row] = sum + (scale * frequency) / (frequency + base + slope * (lengths[first + row] as number));
  }
  return numTouched;
}

function firstAtLeast(rows: Uint16Array, begin: number, end: number, row: number): number {
  let low = begin;
  let high = end;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle] as number) < row) low = middle + 1;
    else high = middle;
  }
  return low;
}

function scan(
  { scale, rows, frequencies, frequenciesAt, isDense, begin, end }: Part,
  first: number,
  lengths: Uint32Array,
  { base, slope }: LengthNorm,
  offer: (row: number, found: number) => void,
): void {
  const count = isDense ? segmentRows : end - begin;
  for (let i = 0; i < count; i += 1) {
    const frequency = frequencies[frequenciesAt + i] as number;
    if (frequency === 0) continue;
    const row = isDense ? i : (rows[begin + i] as number);
    offer(row, (scale * frequency) / (frequency + base + slope * (lengths[first + row] as number)));
  }
}

/** How often the term occurs in a row of its segment; 0 when it does not. */
function frequencyOf(part: Part, row: number): number {
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

/** The best rows so far, best first. */
class TopRows {
  /** A row needs more than this to come in. */
  threshold: number;
  readonly #count: number;
  readonly #rows: RankedRow[] = [];

  constructor(count: number, bound: number) {
    this.#count = count;
    // At least `count` rows reach the bound, so whoever is below it is out; whoever is on it may be in.
    this.threshold = bound * (1 - 1e-6);
  }

  add(row: number, score: number): void {
    const rows = this.#rows;
    if (rows.length === this.#count) {
      const last = rows[rows.length - 1] as RankedRow;
      if (score < last.score || (score === last.score && row > last.row)) return;
      rows.pop();
    }
    let at = rows.length;
    while (at > 0) {
      const other = rows[at - 1] as RankedRow;
      if (other.score > score || (other.score === score && other.row < row)) break;
      at -= 1;
    }
    rows.splice(at, 0, { row, score });
    if (rows.length === this.#count) {
      // Rows of one segment come in no order: one with the score of the last may still have to come before it.
      const { score: lowest } = rows[rows.length - 1] as RankedRow;
      this.threshold = Math.max(this.threshold, lowest * (1 - 1e-12));
    }
  }

  sorted(): RankedRow[] {
    return this.#rows;
  }
}
