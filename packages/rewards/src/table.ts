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

// White space as Unicode defines it. String.trim would also remove U+FEFF and keep U+001C..U+001F and U+0085.
const outerSpace = /^[\p{White_Space}\u{1c}-\u{1f}]+|[\p{White_Space}\u{1c}-\u{1f}]+$/gu;

export function trimSpace(text: string): string {
  return text.replace(outerSpace, "");
}
