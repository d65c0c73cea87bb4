// The final answer inside a model's text. Owns what counts as the answer, not what it says.

/** The text after the last `</think>`; the whole text when there is none. */
export function stripThinking(text: string): string {
  const end = text.lastIndexOf("</think>");
  return end < 0 ? text : text.slice(end + "</think>".length);
}

/** Content of the last `\boxed{...}` whose braces close, or undefined. One pass, so hostile text costs no more than its length. */
export function extractBoxed(text: string): string | undefined {
  const marker = "\\boxed{";
  /** Where the content of each open brace begins; -1 for a brace that is no box. */
  const open: number[] = [];
  let lastStart = -1;
  let lastEnd = -1;
  for (let i = 0; i < text.length; i++) {
    if (text.startsWith(marker, i)) {
      i += marker.length - 1;
      open.push(i + 1);
    } else if (text[i] === "{") {
      open.push(-1);
    } else if (text[i] === "}") {
      const start = open.pop() ?? -1;
      if (start > lastStart) {
        lastStart = start;
        lastEnd = i;
      }
    }
  }
  return lastStart < 0 ? undefined : text.slice(lastStart, lastEnd).trim();
}
