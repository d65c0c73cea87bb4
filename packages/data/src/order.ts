// The order in which training sees its tasks: a new seeded permutation every epoch, addressed by a cursor.
import { SeededRandom } from "./random.ts";

/**
 * Task index at `cursor` (tasks drawn since the start of training). The same (seed, numTasks, cursor) gives the same
 * index, so a resumed run needs to store nothing but the cursor.
 */
export class TaskOrder {
  readonly #seed: number;
  readonly #numTasks: number;
  #epoch = -1;
  #permutation: number[] = [];

  constructor(seed: number, numTasks: number) {
    if (numTasks < 1) throw new RangeError("an order needs at least one task");
    this.#seed = seed;
    this.#numTasks = numTasks;
  }

  at(cursor: number): number {
    const epoch = Math.floor(cursor / this.#numTasks);
    if (epoch !== this.#epoch) {
      const indices = Array.from({ length: this.#numTasks }, (_, index) => index);
      this.#permutation = new SeededRandom("order", this.#seed, epoch).shuffle(indices);
      this.#epoch = epoch;
    }
    return this.#permutation[cursor % this.#numTasks] as number;
  }
}
