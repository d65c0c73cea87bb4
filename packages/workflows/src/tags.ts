// Protocols in tags: <search>...</search> and the like. Owns how tags are found, and that page text never is one.

export interface Tag {
  name: string;
  content: string;
}

/** The first whole tag of one of `names` and the text up to its end. */
export function firstTag(text: string, names: readonly string[]): { tag: Tag; upToEnd: string } | undefined {
  const match = new RegExp(`<(${names.join("|")})>([\\s\\S]*?)</\\1>`).exec(text);
  if (match === null) return undefined;
  const [whole, name = "", content = ""] = match;
  return { tag: { name, content: content.trim() }, upToEnd: text.slice(0, match.index + whole.length) };
}

/** Content of the last whole tag of that name. */
export function lastTag(text: string, name: string): string | undefined {
  const end = text.lastIndexOf(`</${name}>`);
  const start = end < 0 ? -1 : text.lastIndexOf(`<${name}>`, end);
  return start < 0 ? undefined : text.slice(start + name.length + 2, end).trim();
}

/** Text of a page, in which nothing looks like a tag of a protocol any more. */
export function harmless(text: string): string {
  return text.replaceAll(
    /<(\/?)(think|thought|search|access|information|answer|tasks?|use_mcp_tool|tool_call|tool_response)>/gi,
    "‹$1$2›",
  );
}
