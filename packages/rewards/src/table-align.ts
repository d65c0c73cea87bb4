// Which predicted column and row stands for which gold one. Owns one-to-one matching; a judge says what means the same.

import type { Judge } from "@wideseek/spec";
import { normalizeColumnName, type Table } from "./table.ts";

export interface ColumnAlignment {
  /** Index of the predicted column for each required column found. */
  indices: ReadonlyMap<string, number>;
  missing: readonly string[];
  /** Predicted columns that stand for nothing required. */
  extra: readonly string[];
}

/**
 * Finds the required columns (normalised names) in a predicted table: equal names first, then by the judge among what is
 * left. Each predicted column is used at most once.
 */
export async function alignColumns(
  predicted: Table,
  required: readonly string[],
  judge: Judge,
  signal?: AbortSignal,
): Promise<ColumnAlignment> {
  const names = predicted.columns.map(normalizeColumnName);
  const indices = new Map<string, number>();
  names.forEach((name, index) => {
    if (required.includes(name) && !indices.has(name)) indices.set(name, index);
  });
  const unmatched = (): string[] => required.filter((column) => !indices.has(column));
  const used = (): Set<number> => new Set(indices.values());
  if (unmatched().length > 0) {
    const taken = used();
    const left = names.filter((_, index) => !taken.has(index));
    const map = left.length === 0 ? new Map<string, string>() : await judge.align(left, unmatched(), signal);
    names.forEach((name, index) => {
      const column = map.get(name);
      if (column === undefined || taken.has(index) || !required.includes(column) || indices.has(column)) return;
      indices.set(column, index);
    });
  }
  const taken = used();
  return { indices, missing: unmatched(), extra: names.filter((_, index) => !taken.has(index)) };
}

/**
 * Rewrites predicted key cells as the gold cells of the same meaning. Several spellings may become one gold cell: whether
 * that makes two rows one is decided by `matchRows`.
 */
export async function alignKeyCells(
  predicted: readonly string[],
  gold: readonly string[],
  judge: Judge,
  signal?: AbortSignal,
): Promise<string[]> {
  const references = new Set(gold);
  const unknown = [...new Set(predicted)].filter((cell) => !references.has(cell));
  if (unknown.length === 0 || references.size === 0) return [...predicted];
  const map = await judge.align(unknown, [...references], signal);
  return predicted.map((cell) => {
    const reference = references.has(cell) ? undefined : map.get(cell);
    return reference !== undefined && references.has(reference) ? reference : cell;
  });
}

/** A row's key before and after preprocessing. */
export interface RowKey {
  exact: string;
  loose: string;
}

export interface RowMatching {
  /** Indices into predicted and gold rows; no index occurs twice. */
  pairs: { predicted: number; gold: number }[];
  numPredicted: number;
  numGold: number;
}

export function rowKey(cells: readonly string[]): string {
  return JSON.stringify(cells);
}

/**
 * Pairs rows of equal loose key one to one, rows of equal exact key first. Repeated rows of a key are dropped from the
 * counts, so that saying a row twice neither helps nor harms.
 */
export function matchRows(predicted: readonly RowKey[], gold: readonly RowKey[]): RowMatching {
  const goldGroups = groupRows(gold);
  const pairs: RowMatching["pairs"] = [];
  let numPredicted = 0;
  for (const [loose, rows] of groupRows(predicted)) {
    const targets = new Map(goldGroups.get(loose));
    const rest: number[] = [];
    let numPairs = 0;
    for (const [exact, row] of rows) {
      const target = targets.get(exact);
      if (target === undefined) {
        rest.push(row);
      } else {
        targets.delete(exact);
        pairs.push({ predicted: row, gold: target });
        numPairs++;
      }
    }
    const free = targets.values();
    for (const row of rest) {
      const target = free.next();
      if (target.done) break;
      pairs.push({ predicted: row, gold: target.value });
      numPairs++;
    }
    numPredicted += Math.max(numPairs, 1);
  }
  const numGold = [...goldGroups.values()].reduce((sum, rows) => sum + rows.size, 0);
  return { pairs, numPredicted, numGold };
}

/** First row of each exact key, by loose key. */
function groupRows(keys: readonly RowKey[]): Map<string, Map<string, number>> {
  const groups = new Map<string, Map<string, number>>();
  keys.forEach(({ exact, loose }, row) => {
    const group = groups.get(loose) ?? new Map<string, number>();
    if (!group.has(exact)) group.set(exact, row);
    groups.set(loose, group);
  });
  return groups;
}
