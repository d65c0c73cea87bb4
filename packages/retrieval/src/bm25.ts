// The BM25 formula of SQLite's FTS5 and its constants. Owns no index.

const k1 = 1.2;
const b = 0.75;

/** Weight of a term that `numMatching` of `numRows` rows have; never negative, as in FTS5. */
export function inverseFrequency(numRows: number, numMatching: number): number {
  const weight = Math.log((numRows - numMatching + 0.5) / (numMatching + 0.5));
  return weight <= 0 ? 1e-6 : weight;
}

/**
 * A term's score in a row is `scale * f / (f + base + slope * length)` for its frequency `f` and the row's length in
 * terms, where `scale` is `scoreScale(weight)`.
 */
export interface LengthNorm {
  base: number;
  slope: number;
}

export function lengthNorm(meanLength: number): LengthNorm {
  return { base: k1 * (1 - b), slope: meanLength === 0 ? 0 : (k1 * b) / meanLength };
}

export function scoreScale(weight: number): number {
  return weight * (k1 + 1);
}
