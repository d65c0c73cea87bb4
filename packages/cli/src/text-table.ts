// Rows of text with columns of equal width. Owns nothing else.

/** The first column is aligned to the left, the others to the right. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const numColumns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: numColumns }, (_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  const format = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ");
  return rows.map(format).join("\n");
}
