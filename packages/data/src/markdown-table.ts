// Markdown tables in the one form that pages, gold answers and expert traces share. Cells touch their bars: a bar and
// the word after it are then one token, and the token before a cell tells which row it belongs to, which is what a very
// small model needs to copy a row.

export function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return [markdownRow(columns), markdownRow(columns.map(() => "---")), ...rows.map(markdownRow)].join("\n");
}

export function markdownRow(cells: readonly string[]): string {
  return `|${cells.join("|")}|`;
}
