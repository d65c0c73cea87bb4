// Markdown tables in the one form that pages, gold answers and expert traces share.

export function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  return [markdownRow(columns), markdownRow(columns.map(() => "---")), ...rows.map(markdownRow)].join("\n");
}

export function markdownRow(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}
