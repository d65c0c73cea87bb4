// Whether two systems differ on the same tasks: a sign-flip permutation test and a paired bootstrap. Owns no measures.
import {
  type BootstrapSettings,
  defaultBootstrap,
  type Estimate,
  estimateMean,
  uniformGenerator,
} from "./bootstrap.ts";

export interface PairedResult {
  /** Mean of the differences with its percentile interval over tasks. */
  difference: Estimate;
  /**
   * Two-sided: the share of sign flips of the differences whose mean is at least as far from 0. NaN without tasks.
   * Exact up to `MAX_EXACT_TASKS` differences that are not 0, drawn with a fixed seed beyond.
   */
  pValue: number;
  exact: boolean;
}

/** 2^20 flips take some 10 ms. */
const MAX_EXACT_TASKS = 20;
const NUM_FLIPS = 100_000;
/** Sums that differ by rounding only are equal: otherwise the observed one would not always count itself. */
const RELATIVE_TOLERANCE = 1e-12;

/** `differences`: one value a task, ours minus theirs. */
export function pairedTest(
  differences: readonly number[],
  settings: BootstrapSettings = defaultBootstrap,
): PairedResult {
  const difference = estimateMean(differences, settings);
  // A difference of 0 is the same under both signs.
  const sizes = differences.filter((value) => value !== 0).map(Math.abs);
  const observed = Math.abs(differences.reduce((sum, value) => sum + value, 0));
  const limit = observed - RELATIVE_TOLERANCE * sizes.reduce((sum, value) => sum + value, 0);
  const exact = sizes.length <= MAX_EXACT_TASKS;
  if (differences.length === 0) return { difference, pValue: Number.NaN, exact };
  return { difference, pValue: exact ? exactShare(sizes, limit) : drawnShare(sizes, limit, settings.seed), exact };
}

function exactShare(sizes: readonly number[], limit: number): number {
  const numFlips = 2 ** sizes.length;
  let numAsFar = 0;
  for (let signs = 0; signs < numFlips; signs++) {
    let sum = 0;
    for (let index = 0; index < sizes.length; index++) {
      const size = sizes[index] ?? 0;
      sum += (signs >> index) & 1 ? -size : size;
    }
    if (Math.abs(sum) >= limit) numAsFar++;
  }
  return numAsFar / numFlips;
}

/** The observed signs count as one of the flips, so that p is never 0 (Phipson and Smyth 2010). */
function drawnShare(sizes: readonly number[], limit: number, seed: number): number {
  const uniform = uniformGenerator(seed);
  let numAsFar = 0;
  for (let flip = 0; flip < NUM_FLIPS; flip++) {
    let sum = 0;
    for (const size of sizes) sum += uniform() < 0.5 ? -size : size;
    if (Math.abs(sum) >= limit) numAsFar++;
  }
  return (numAsFar + 1) / (NUM_FLIPS + 1);
}

/** Holm's step-down adjustment: the chance of any false finding among all tests stays below the level. NaN stays NaN. */
export function holm(pValues: readonly number[]): number[] {
  const order = pValues
    .map((pValue, index) => ({ pValue, index }))
    .filter(({ pValue }) => !Number.isNaN(pValue))
    .sort((a, b) => a.pValue - b.pValue);
  const adjusted = pValues.map(() => Number.NaN);
  let most = 0;
  order.forEach(({ pValue, index }, rank) => {
    most = Math.max(most, Math.min(1, pValue * (order.length - rank)));
    adjusted[index] = most;
  });
  return adjusted;
}
