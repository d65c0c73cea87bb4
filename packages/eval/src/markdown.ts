// Tables in Markdown. Owns nothing but their form.

/** The first row is the header. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return `${[line(head), line(head.map(() => "---")), ...body.map(line)].join("\n")}\n`;
}
