// Trains a byte-level BPE vocabulary in the Qwen3 format. The `tokenizers` npm package encodes but has no trainer to configure.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { atBoundary, makeFolder, WideSeekError } from "@wideseek/spec";
import { byteLevelAlphabet, Tokenizer as NativeTokenizer } from "tokenizers";
import { PairQueue } from "./pair-queue.ts";
import {
  type AddedToken,
  QWEN3_ADDED_TOKENS,
  qwen3TokenizerConfig,
  qwen3TokenizerJson,
  type TokenizerJson,
} from "./qwen3-format.ts";

export interface BpeSettings {
  /** With the 256 bytes and the special tokens; training ends earlier when no pair occurs twice. */
  vocabSize: number;
  /** Default: Qwen3's. Their ids follow the BPE vocabulary; their occurrences in the texts are not learned from. */
  specialTokens?: readonly AddedToken[] | undefined;
}

/** A word of the texts as token ids, with its number of occurrences. */
interface Word {
  tokenIds: number[];
  count: number;
}

/**
 * The same texts and settings give the same vocabulary. Work grows with the number of different words, not with the
 * length of the texts.
 * @throws WS_INVALID_ARGUMENT when `vocabSize` has no room for the bytes and special tokens
 */
export function trainBpe(texts: Iterable<string>, settings: BpeSettings): TokenizerJson {
  const specialTokens = settings.specialTokens ?? QWEN3_ADDED_TOKENS;
  const vocab = byteLevelAlphabet().sort();
  const minVocabSize = vocab.length + specialTokens.length;
  if (!Number.isSafeInteger(settings.vocabSize) || settings.vocabSize < minVocabSize)
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `vocabSize is ${settings.vocabSize}; it must be an integer of at least ${minVocabSize} (${vocab.length} bytes and ${specialTokens.length} special tokens)`,
      { op: "trainBpe", details: { vocabSize: settings.vocabSize, minVocabSize } },
    );
  const words = collectWords(texts, vocab, specialTokens);
  const merges = learnMerges(words, vocab, settings.vocabSize - specialTokens.length);
  return qwen3TokenizerJson(vocab, merges, specialTokens);
}

/** Writes tokenizer.json and tokenizer_config.json. @throws WS_IO */
export async function saveTokenizer(modelDir: string, tokenizer: TokenizerJson, chatTemplate: string): Promise<void> {
  await atBoundary("WS_IO", "saveTokenizer", async () => {
    makeFolder(modelDir);
    const config = qwen3TokenizerConfig(tokenizer, chatTemplate);
    await writeFile(join(modelDir, "tokenizer.json"), `${JSON.stringify(tokenizer, null, 1)}\n`);
    await writeFile(join(modelDir, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  });
}

/** Counts words exactly as the finished tokenizer will split them, by asking the library for its own splitting. */
function collectWords(
  texts: Iterable<string>,
  alphabet: readonly string[],
  specialTokens: readonly AddedToken[],
): Word[] {
  const splitter = NativeTokenizer.fromString(JSON.stringify(qwen3TokenizerJson(alphabet, [], [])));
  const normalizer = splitter.getNormalizer();
  const preTokenizer = splitter.getPreTokenizer();
  if (normalizer === null || preTokenizer === null)
    throw new WideSeekError("WS_INTERNAL", "the tokenizer layout lost its normaliser or pre-tokenizer");

  const counts = new Map<string, number>();
  for (const text of texts) {
    let pieces = [text];
    for (const { content } of specialTokens) pieces = pieces.flatMap((piece) => piece.split(content));
    for (const piece of pieces) {
      if (piece === "") continue;
      for (const [word] of preTokenizer.preTokenizeString(normalizer.normalizeString(piece)))
        counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const byteIds = new Map(alphabet.map((character, id) => [character, id]));
  return [...counts].map(([word, count]) => ({
    tokenIds: Array.from(word, (character) => byteIds.get(character) ?? unknownByte(character)),
    count,
  }));
}

/** Appends merged tokens to `vocab` until it has `vocabSize` entries or no pair occurs twice. */
function learnMerges(words: readonly Word[], vocab: string[], vocabSize: number): [string, string][] {
  const pairCounts = new Map<number, number>();
  /** Words that have, or had, the pair. */
  const wordsOfPair = new Map<number, Set<Word>>();
  const queue = new PairQueue();
  const pairKey = (left: number, right: number): number => left * vocabSize + right;

  /** Adds `sign` times the word's pairs to the counts. */
  function count(word: Word, sign: 1 | -1, changed: Set<number>): void {
    const { tokenIds } = word;
    for (let i = 1; i < tokenIds.length; i++) {
      const key = pairKey(tokenIds[i - 1] as number, tokenIds[i] as number);
      pairCounts.set(key, (pairCounts.get(key) ?? 0) + sign * word.count);
      changed.add(key);
      if (sign < 0) continue;
      const holders = wordsOfPair.get(key);
      if (holders === undefined) wordsOfPair.set(key, new Set([word]));
      else holders.add(word);
    }
  }

  function enqueue(keys: Iterable<number>): void {
    for (const key of keys) {
      const pairCount = pairCounts.get(key) ?? 0;
      if (pairCount > 1) queue.push({ left: Math.floor(key / vocabSize), right: key % vocabSize, count: pairCount });
    }
  }

  const seen = new Set<number>();
  for (const word of words) count(word, 1, seen);
  enqueue(seen);

  const merges: [string, string][] = [];
  while (vocab.length < vocabSize) {
    const pair = queue.pop();
    if (pair === undefined) break;
    const key = pairKey(pair.left, pair.right);
    // Entries are not updated in place: each change of a count was queued anew, and older entries are skipped here.
    if (pairCounts.get(key) !== pair.count) continue;
    const left = vocab[pair.left] as string;
    const right = vocab[pair.right] as string;
    merges.push([left, right]);
    // A new string each time: all occurrences of a string that no merge crosses are split alike, so no two pairs spell it.
    const merged = vocab.push(left + right) - 1;
    const changed = new Set<number>();
    for (const word of wordsOfPair.get(key) ?? []) {
      count(word, -1, changed);
      word.tokenIds = mergePair(word.tokenIds, pair.left, pair.right, merged);
      count(word, 1, changed);
    }
    wordsOfPair.delete(key);
    enqueue(changed);
  }
  return merges;
}

function mergePair(tokenIds: readonly number[], left: number, right: number, merged: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < tokenIds.length; i++) {
    if (tokenIds[i] === left && tokenIds[i + 1] === right) {
      result.push(merged);
      i++;
    } else {
      result.push(tokenIds[i] as number);
    }
  }
  return result;
}

function unknownByte(character: string): never {
  throw new WideSeekError("WS_INTERNAL", `the pre-tokenizer returned ${character}, which stands for no byte`);
}
