// Cutting text at a number of characters. Owns the one rule: never through the middle of a surrogate pair.

/** The first `limit` UTF-16 units of `text`, one less when that would split a character. */
export function firstCharacters(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const last = text.charCodeAt(limit - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit);
}
