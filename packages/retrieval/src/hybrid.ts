// Several retrievers as one by reciprocal rank fusion. Owns the fusion, not the searching.
import type { FoundRecord, Retriever } from "./retriever.ts";

/** Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods". */
const rankOffset = 60;

/** The sum of 1 / (60 + rank) over `rankings`; equal sums in the order of the corpus. */
export function fuse(rankings: readonly (readonly FoundRecord[])[], count: number): FoundRecord[] {
  const fused = new Map<number, FoundRecord>();
  for (const ranking of rankings) {
    for (const [place, record] of ranking.entries()) {
      const share = 1 / (rankOffset + place + 1);
      fused.set(record.id, { ...record, score: (fused.get(record.id)?.score ?? 0) + share });
    }
  }
  return [...fused.values()].sort((a, b) => b.score - a.score || a.id - b.id).slice(0, count);
}

export class HybridRetriever implements Retriever {
  readonly #retrievers: readonly Retriever[];
  readonly #candidates: number;

  /** `candidates` of each retriever are fused, or as many as are asked for if that is more. Owns the retrievers. */
  constructor(retrievers: readonly Retriever[], candidates: number) {
    this.#retrievers = retrievers;
    this.#candidates = candidates;
  }

  async retrieve(queries: readonly string[], count: number, signal?: AbortSignal): Promise<FoundRecord[][]> {
    const depth = Math.max(count, this.#candidates);
    const answers = await Promise.all(this.#retrievers.map((each) => each.retrieve(queries, depth, signal)));
    return queries.map((_, i) => {
      return fuse(
        answers.map((answer) => answer[i] ?? []),
        count,
      );
    });
  }

  async check(): Promise<void> {
    await Promise.all(this.#retrievers.map((each) => each.check()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#retrievers.map((each) => each[Symbol.asyncDispose]()));
  }
}
