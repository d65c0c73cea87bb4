// Words of a text for full-text search: what is indexed, and the FTS5 expression a query becomes. Owns no database.

// A long query adds nothing to the ranking after this many distinct terms but costs a posting list each.
const maxTerms = 64;

// FTS5's unicode61 takes a run of Chinese or Japanese as one word; single characters are indexed instead.
const unspacedScript = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
const everyUnspaced = new RegExp(unspacedScript.source, "gu");

/** Text as it is indexed: characters of scripts without spaces become words of their own. */
export function indexedText(text: string): string {
  return text.replace(everyUnspaced, " $& ");
}

/**
 * Any user text as a safe FTS5 expression: its words, quoted, joined by OR; pairs of neighbours for scripts without
 * spaces. Null when it holds no word.
 */
export function matchExpression(query: string): string | null {
  const terms = new Set<string>();
  for (const word of query.toLowerCase().match(/[\p{L}\p{N}\p{M}]+/gu) ?? []) {
    for (const term of termsOf(word)) if (terms.size < maxTerms) terms.add(term);
  }
  return terms.size === 0 ? null : [...terms].map((term) => `"${term}"`).join(" OR ");
}

function* termsOf(word: string): Generator<string, void, void> {
  for (const part of word.split(/([\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]+)/u)) {
    if (!unspacedScript.test(part)) {
      if (part !== "") yield part;
      continue;
    }
    const characters = [...part];
    if (characters.length === 1) yield part;
    for (let i = 1; i < characters.length; i += 1) yield `${characters[i - 1]} ${characters[i]}`;
  }
}
