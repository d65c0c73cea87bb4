// Short answers to single-fact questions. Owns exact match and token F1 as in SQuAD, Chinese by character.

/** Lower case without punctuation, English articles and repeated white space. */
export function normalizeAnswer(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[\p{P}\p{S}]/gu, "")
    .replace(/\b(?:a|an|the)\b/g, " ")
    .replace(/\p{White_Space}+/gu, " ")
    .trim();
}

/** 1 when the normalised response equals one of the normalised answers. */
export function answerExactMatch(response: string, answers: readonly string[]): number {
  const normalized = normalizeAnswer(response);
  return answers.some((answer) => normalizeAnswer(answer) === normalized) ? 1 : 0;
}

/** Best F1 of shared tokens over the answers. Two empty token lists are equal. */
export function tokenF1(response: string, answers: readonly string[]): number {
  const tokens = answerTokens(response);
  return Math.max(0, ...answers.map((answer) => overlapF1(tokens, answerTokens(answer))));
}

/** Words; a character of a script without spaces is a token of its own. */
function answerTokens(text: string): string[] {
  return (
    normalizeAnswer(text).match(
      /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}]|[^\s\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}]+/gu,
    ) ?? []
  );
}

function overlapF1(response: readonly string[], answer: readonly string[]): number {
  if (response.length === 0 || answer.length === 0) return response.length === answer.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const token of answer) left.set(token, (left.get(token) ?? 0) + 1);
  let shared = 0;
  for (const token of response) {
    const count = left.get(token) ?? 0;
    if (count === 0) continue;
    left.set(token, count - 1);
    shared++;
  }
  return shared === 0 ? 0 : (2 * shared) / (response.length + answer.length);
}
