// Protocols in tags: <search>...</search> and the like. Owns how tags are found.

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
