// The best rows of a search so far, and what a row must reach to come in.

export interface RankedRow {
  row: number;
  score: number;
}

/** The best rows so far, best first. */
export class TopRows {
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
