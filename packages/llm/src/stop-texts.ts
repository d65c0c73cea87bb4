// Stop texts at the end of a reply: servers cut them off, callers need them. Owns no generation.

/**
 * `text` up to and with the first stop text. A server that cut it off names it in `reported`, or it is inferred where
 * the stop text is a closing tag and its opening is the last open one of prompt and text.
 */
export function withStopText(
  text: string,
  stop: readonly string[],
  { prompt, reported, stopped }: { prompt: string; reported: unknown; stopped: boolean },
): string {
  const ends = stop
    .filter((each) => each !== "" && text.includes(each))
    .map((each) => text.indexOf(each) + each.length);
  if (ends.length > 0) return text.slice(0, Math.min(...ends));
  if (!stopped) return text;
  if (typeof reported === "string") return stop.includes(reported) ? text + reported : text;
  // vLLM and SGLang report the id of the token that ended the text, or null: no stop text then.
  if (reported !== undefined) return text;
  return text + (lastOpenTag(prompt, text, stop) ?? "");
}

function lastOpenTag(prompt: string, text: string, stop: readonly string[]): string | undefined {
  let found: { at: number; closing: string } | undefined;
  // What the prompt leaves open counts only where it ends with it: instructions speak of tags too.
  const whole = (/<[^<>/]+>\s*$/.exec(prompt)?.[0] ?? "") + text;
  for (const closing of stop) {
    const name = /^<\/([^<>]+)>$/.exec(closing)?.[1];
    if (name === undefined) continue;
    const at = whole.lastIndexOf(`<${name}>`);
    if (at > whole.lastIndexOf(closing) && at > (found?.at ?? -1)) found = { at, closing };
  }
  return found?.closing;
}
