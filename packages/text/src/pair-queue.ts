// Binary max-heap of token pairs for BPE training. Owns the order in which merges happen.

export interface PairCount {
  left: number;
  right: number;
  count: number;
}

/** Most frequent first; of equals the one with the lower ids, so that training is deterministic. */
export class PairQueue {
  readonly #heap: PairCount[] = [];

  get size(): number {
    return this.#heap.length;
  }

  push(pair: PairCount): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(pair);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !comesBefore(pair, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = pair;
  }

  pop(): PairCount | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      let below = heap[child];
      const sibling = heap[child + 1];
      if (below !== undefined && sibling !== undefined && comesBefore(sibling, below)) {
        child += 1;
        below = sibling;
      }
      if (below === undefined || !comesBefore(below, last)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

function comesBefore(a: PairCount, b: PairCount): boolean {
  if (a.count !== b.count) return a.count > b.count;
  return a.left !== b.left ? a.left < b.left : a.right < b.right;
}
