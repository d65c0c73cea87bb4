// Sequences of random tokens to be repeated: the first lesson of a new model, which teaches it to look things up in its
// context (an induction head) before it has anything to say about them. Owns no text and no loss.
import { SeededRandom } from "./random.ts";

/** Token ids to read and the ids to write after them. */
export interface CopyDrill {
  given: Int32Array;
  copied: Int32Array;
}

const MIN_LENGTH = 5;
/** Longer sequences are not needed for the head to form, and make the first step to it harder. */
const MAX_LENGTH = 30;

/**
 * Drill number `index`: random tokens, to be said twice more. The same index gives the same drill.
 * @param vocabulary ordinary token ids
 */
export function copyDrill(seed: number, index: number, vocabulary: readonly number[]): CopyDrill {
  const random = new SeededRandom("copy", seed, index);
  const given = Array.from({ length: random.integer(MIN_LENGTH, MAX_LENGTH) }, () => random.pick(vocabulary));
  return { given: Int32Array.from(given), copied: Int32Array.from([...given, ...given]) };
}
