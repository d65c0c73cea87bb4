// A table of text. Owns the shape and how column names are compared.

/** Rows are as wide as `columns`; a missing cell is "". */
export interface Table {
  columns: readonly string[];
  rows: readonly (readonly string[])[];
}

/** Column names are compared without case and without spaces, as the WideSearch benchmark does. */
export function normalizeColumnName(name: string): string {
  return trimSpace(name).toLowerCase().replaceAll(" ", "");
}

/** White space as Unicode and Python define it; String.trim also takes U+FEFF and leaves U+001C..U+001F and U+0085. */
function isSpace(char: string | undefined): boolean {
  if (char === undefined || (char > " " && char < "\u{80}")) return false;
  return char === " " || (char >= "\u{1c}" && char <= "\u{1f}") || /\p{White_Space}/u.test(char);
}

/** Removes white space at both ends, in one pass whatever the text. */
export function trimSpace(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isSpace(text[start])) start++;
  while (end > start && isSpace(text[end - 1])) end--;
  return text.slice(start, end);
}

/** The table as GitHub Markdown; bars and line breaks inside cells are written so that they come back when read. */
export function formatMarkdownTable({ columns, rows }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells
      .map((cell) =>
        cell
          .replaceAll("\\", "\\\\")
          .replaceAll("|", "\\|")
          .replace(/\r\n?|\n/g, "<br>"),
      )
      .join(" | ")} |`;
  return [line(columns), line(columns.map(() => "---")), ...rows.map(line)].join("\n");
}
