// Seeded draws for generated data and task order. Not used for sampling tokens (that is the engine's Philox).
import { createHash } from "node:crypto";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** A stream of draws fixed by its key: equal keys give equal draws on every machine. */
export class SeededRandom {
  readonly #generator: ReturnType<typeof xoroshiro128plus>;

  constructor(...key: readonly (string | number | bigint)[]) {
    const digest = createHash("sha256")
      .update(JSON.stringify(key.map(String)))
      .digest();
    this.#generator = xoroshiro128plus(digest.readInt32LE(0));
  }

  /** Uniform integer in [min, max], both included. */
  integer(min: number, max: number): number {
    return uniformInt(this.#generator, min, max);
  }

  chance(probability: number): boolean {
    return this.integer(0, 999_999) < probability * 1_000_000;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.integer(0, items.length - 1)];
    if (item === undefined) throw new RangeError("pick from an empty list");
    return item;
  }

  /** Index drawn with the given probabilities (their sum is 1). */
  weighted(probabilities: readonly number[]): number {
    let rest = this.integer(0, 999_999) / 1_000_000;
    for (const [index, probability] of probabilities.entries()) {
      rest -= probability;
      if (rest < 0) return index;
    }
    return probabilities.length - 1;
  }

  /** A new array in random order (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let last = result.length - 1; last > 0; last--) {
      const other = this.integer(0, last);
      const swapped = result[last] as T;
      result[last] = result[other] as T;
      result[other] = swapped;
    }
    return result;
  }

  /** `count` different items in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    return this.shuffle(items).slice(0, count);
  }
}
