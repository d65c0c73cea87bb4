// The best rows of a query: MaxScore over postings with a bound for each window of rows. Exact: what it skips cannot be among the best.

import { type RankedRow, TopRows } from "./best-rows.ts";
import type { LengthNorm } from "./bm25.ts";
import { segmentWindows, windowRows, windowShift } from "./index-files.ts";
import { frequencyInWindow, frequencyOf, nextAtLeast, type Part, partOf, type TermPostings } from "./postings.ts";
import { segmentRows } from "./segment.ts";
import { maxQueryTerms } from "./terms.ts";

/** Sums in another order may differ by this factor; whoever comes this near is computed exactly. */
const slack = 1 + 1e-9;

/** Rows of the rarest term that are scored in full to begin with, and rows that they are chosen from. */
const sampledRows = 12;
const maxScannedRows = 16_384;

// One search runs at a time on a thread, so these are shared by all. Zero between searches.
const sums = new Float64Array(segmentRows);
const touched = new Uint16Array(segmentRows);
const windowSums = new Float64Array(segmentWindows);
const windowBounds = new Float64Array(segmentWindows * maxQueryTerms);

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
  const required = rarestRequired(byHighest, window, top.threshold);
  let optional = 0;
  let firstEssential = 0;
  let numTouched = 0;
  if (required >= 0) {
    optional = (windowSums[window] as number) - (windowBounds[required * segmentWindows + window] as number);
    firstEssential = byHighest.length;
    numTouched = accumulate(byHighest[required] as Part, window, first, lengths, norm, 0);
  } else {
    // Rows that only have terms before `firstEssential` cannot reach the threshold: the rest must find the candidates.
    for (; firstEssential < byHighest.length; firstEssential += 1) {
      const sum = optional + (windowBounds[firstEssential * segmentWindows + window] as number);
      if (sum * slack > top.threshold) break;
      optional = sum;
    }
    for (let place = firstEssential; place < byHighest.length; place += 1) {
      if (windowBounds[place * segmentWindows + window] === 0) continue;
      numTouched = accumulate(byHighest[place] as Part, window, first, lengths, norm, numTouched);
    }
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
      if (bound === 0 || place === required) continue;
      rest -= bound;
      const part = byHighest[place] as Part;
      const frequency = frequencyInWindow(part, row, window);
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

/**
 * The place of a term without which no row of the window reaches the threshold, of several the one with the fewest
 * postings: its rows alone are candidates. -1 when there is none.
 */
function rarestRequired(byHighest: readonly Part[], window: number, threshold: number): number {
  const sum = windowSums[window] as number;
  let rarest = -1;
  let fewest = Number.POSITIVE_INFINITY;
  for (let place = 0; place < byHighest.length; place += 1) {
    if ((sum - (windowBounds[place * segmentWindows + window] as number)) * slack > threshold) continue;
    const { isDense, begin, end } = byHighest[place] as Part;
    const count = isDense ? segmentRows : end - begin;
    if (count < fewest) {
      fewest = count;
      rarest = place;
    }
  }
  return rarest;
}

/** Adds a term's scores in a window to `sums`; returns how many rows have been touched. */
function accumulate(
  part: Part,
  window: number,
  first: number,
  lengths: Uint32Array,
  { base, slope }: LengthNorm,
  alreadyTouched: number,
): number {
  const { scale, rows, frequencies, frequenciesAt, isDense, begin, end } = part;
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
  let i = nextAtLeast(rows, part.cursor, end, firstRow);
  for (; i < end; i += 1) {
    const row = rows[i] as number;
    if (row >= endRow) break;
    const frequency = frequencies[frequenciesAt + i - begin] as number;
    const sum = sums[row] as number;
    if (sum === 0) touched[numTouched++] = row;
    sums[row] = sum + (scale * frequency) / (frequency + base + slope * (lengths[first + row] as number));
  }
  part.cursor = i;
  return numTouched;
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
