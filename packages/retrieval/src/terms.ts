// Text to index terms: lower case, no diacritics, stems; pairs of characters for scripts without spaces. Owns no index.
import { stemmer } from "stemmer";

/** Longer words are cut: they are noise, and the dictionary holds each of them. */
const maxTermCharacters = 64;
/** A long query adds nothing to the ranking after this many distinct terms, but costs a posting list each. */
export const maxQueryTerms = 64;
const maxCachedStems = 500_000;

const asciiOnly = /^[\p{ASCII}]*$/u;
const asciiWords = /[a-z0-9]+/g;
const words = /[\p{L}\p{N}]+/gu;
const unspacedScript = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
const unspacedRuns = /([\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]+)/u;
const asciiLetters = /^[a-z]+$/;

const stems = new Map<string, string>();

function stemOf(word: string): string {
  const known = stems.get(word);
  if (known !== undefined) return known;
  if (stems.size >= maxCachedStems) stems.clear();
  const cut = word.length > maxTermCharacters ? word.slice(0, maxTermCharacters) : word;
  // Porter's rules are about English letters; numbers and other scripts stay as they are.
  const stem = asciiLetters.test(cut) ? stemmer(cut) : cut;
  stems.set(word, stem);
  return stem;
}

/** Terms of `text` in order, repeats included. A run of Chinese or Japanese gives its characters and their pairs. */
export function indexTerms(text: string): string[] {
  return termsOf(text, true);
}

/** Distinct terms that a query is ranked by, at most 64. Of a run of Chinese or Japanese, its pairs of characters. */
export function queryTerms(query: string): string[] {
  return [...new Set(termsOf(query, false))].slice(0, maxQueryTerms);
}

function termsOf(text: string, withSingleCharacters: boolean): string[] {
  const lower = text.toLowerCase();
  if (asciiOnly.test(lower)) return (lower.match(asciiWords) ?? []).map(stemOf);
  const plain = lower
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .normalize("NFC");
  const terms: string[] = [];
  for (const word of plain.match(words) ?? []) {
    if (unspacedScript.test(word)) pushUnspaced(word, withSingleCharacters, terms);
    else terms.push(stemOf(word));
  }
  return terms;
}

function pushUnspaced(word: string, withSingleCharacters: boolean, terms: string[]): void {
  for (const part of word.split(unspacedRuns)) {
    if (part === "") continue;
    if (!unspacedScript.test(part)) {
      terms.push(stemOf(part));
      continue;
    }
    const characters = [...part];
    if (withSingleCharacters || characters.length === 1) terms.push(...characters);
    for (let i = 1; i < characters.length; i += 1) terms.push(`${characters[i - 1]}${characters[i]}`);
  }
}
