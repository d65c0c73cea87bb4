// Sequences of random tokens to be copied: the part of the cold start's curriculum that teaches a new model to look
// things up in its context before it has anything to say about them. Owns no text and no loss.
import { SeededRandom } from "./random.ts";

/** Token ids to read and the ids to write after them. */
export interface CopyDrill {
  given: Int32Array;
  copied: Int32Array;
}

/** Few different tokens force the copier to match more than the last one. */
const ALPHABET_SIZES = [8, 40, 200];

/**
 * Drill number `index`: a list of items of one to four tokens after some noise, then the same items again. Each listing
 * has a separator of its own, so that going on from item to item must be learned, not only repeating.
 * @param vocabulary ordinary token ids
 */
export function copyDrill(seed: number, index: number, vocabulary: readonly number[]): CopyDrill {
  const random = new SeededRandom("copy", seed, index);
  const alphabet = random.sample(vocabulary, random.pick(ALPHABET_SIZES));
  const tokens = (min: number, max: number, from: readonly number[] = alphabet): number[] =>
    Array.from({ length: random.integer(min, max) }, () => random.pick(from));
  const items = Array.from({ length: random.integer(2, 20) }, () => tokens(1, 4));
  const separators = [tokens(1, 4, vocabulary), tokens(1, 6, vocabulary)] as const;
  const listing = (separator: readonly number[]): number[] => items.flatMap((item) => [...separator, ...item]);
  const noise = (): number[] => tokens(1, 40, random.chance(0.5) ? vocabulary : alphabet);
  return {
    given: Int32Array.from([...noise(), ...listing(separators[0]), ...noise()]),
    copied: Int32Array.from(listing(separators[random.integer(0, 1)] as readonly number[])),
  };
}
