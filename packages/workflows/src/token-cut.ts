// Cutting texts at a number of tokens, with a tokenizer or an estimate. Owns no tokenizer.

type Count = (text: string) => number | Promise<number>;

/** Chinese, Japanese and Korean characters are about a token each, other texts about four characters a token. */
export function estimatedTokens(text: string): number {
  const numWide = text.match(/[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]/g)?.length ?? 0;
  return numWide + Math.ceil((text.length - numWide) / 4);
}

/** The longest beginning (or end) of `text` within `limit` tokens. */
export async function cutToTokens(text: string, limit: number, keep: "first" | "last", count: Count): Promise<string> {
  if (limit <= 0) return "";
  if ((await count(text)) <= limit) return text;
  const part = (numCharacters: number): string => wholeCharacters(text, numCharacters, keep);
  let low = 0;
  // Hardly any text has more than 8 characters a token.
  let high = Math.min(text.length, limit * 8);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((await count(part(middle))) <= limit) low = middle;
    else high = middle - 1;
  }
  return part(low);
}

/** So many UTF-16 units of one side, one less where that would split a character. */
export function wholeCharacters(text: string, numCharacters: number, keep: "first" | "last" = "first"): string {
  if (numCharacters >= text.length) return text;
  const part = keep === "first" ? text.slice(0, numCharacters) : text.slice(text.length - numCharacters);
  return keep === "first" ? part.replace(/[\ud800-\udbff]$/, "") : part.replace(/^[\udc00-\udfff]/, "");
}
