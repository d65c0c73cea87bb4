// Tables out of Markdown and CSV text. Owns finding the table and its cells; marked and csv-parse split them.

import { errorMessage, WideSeekError } from "@wideseek/spec";
import { parse as parseCsv } from "csv-parse/sync";
import { Lexer } from "marked";
import { type Table, trimSpace } from "./table.ts";

/** Which of several tables is the answer: WideSearch takes the first, training the last. */
export type FencePolicy = "first" | "last";

/**
 * The answer table of a Markdown text, or undefined when there is none.
 * Fences tagged `markdown` come first; without one, any run of table lines counts. A row's excess cells are dropped and
 * missing ones are "". Columns without a name are dropped. Never throws, whatever the text.
 */
export function parseMarkdownTable(text: string, fence: FencePolicy): Table | undefined {
  const clean = text.replace(/^\u{feff}/u, "").replace(/\r\n?/g, "\n");
  const fenced = [...clean.matchAll(/```markdown(.*?)```/gs)].flatMap((match) => fencedTables(match[1] ?? ""));
  return (fenced.length > 0 ? fenced : looseTables(clean)).at(fence === "first" ? 0 : -1);
}

interface Line {
  text: string;
  /** A blank line stands before it. */
  afterBlank: boolean;
}

/** Lines of cell borders only, e.g. `|:--|--:|`. Rows of nothing but dashes count too, as in the benchmark. */
function isSeparator(line: string): boolean {
  return /^[|:\-\s]+$/.test(line);
}

function isDelimiterRow(line: string): boolean {
  return isSeparator(line) && line.includes("-");
}

/** At most one table: in a fence meant for it every line with a pipe belongs to it, whatever stands between. */
function fencedTables(body: string): Table[] {
  const lines: Line[] = [];
  let afterBlank = false;
  for (const line of body.split("\n")) {
    const text = trimSpace(line);
    if (text.includes("|")) lines.push({ text, afterBlank });
    afterBlank = text === "";
  }
  const table = tablesOfRun(lines, true)[0];
  return table === undefined ? [] : [table];
}

/** Tables outside of tagged fences: runs of lines with pipes, blank lines allowed between them. */
function looseTables(text: string): Table[] {
  const runs: Line[][] = [];
  let run: Line[] = [];
  let afterBlank = false;
  for (const rawLine of text.split("\n")) {
    const opensFence = /^\s*```/.test(rawLine);
    const line = trimSpace(rawLine.replace(/^(?:\s{0,3}>)+/, "").replace(/^\s*```[^|]*|```\s*$/g, ""));
    if (opensFence || (line !== "" && !line.includes("|"))) {
      runs.push(run);
      run = [];
    }
    if (line.includes("|")) run.push({ text: line, afterBlank });
    afterBlank = line === "";
  }
  return [...runs, run].flatMap((lines) => tablesOfRun(lines, false));
}

/**
 * Splits a run of lines with pipes into tables. The line before a delimiter row is a header; text before it is prose.
 * Without a delimiter row the first line is the header if the run is `trusted` (fenced) or looks like a table.
 */
function tablesOfRun(lines: readonly Line[], trusted: boolean): Table[] {
  const headers: number[] = [];
  for (let i = 1; i < lines.length; i++) {
    const header = lines[i - 1];
    if (header === undefined || !isDelimiterRow(lines[i]?.text ?? "") || isSeparator(header.text)) continue;
    // A delimiter row further down is decoration, unless its header starts a new paragraph outside of a fence.
    if (headers.length === 0 || (!trusted && header.afterBlank)) headers.push(i - 1);
  }
  if (headers.length === 0) {
    const first = lines.findIndex((line) => !isSeparator(line.text) && (trusted || line.text.startsWith("|")));
    const numPipes = lines.slice(first).reduce((sum, line) => sum + line.text.split("|").length - 1, 0);
    if (first < 0 || (!trusted && numPipes < 4)) return [];
    headers.push(first);
  }
  return headers.flatMap((start, i) => {
    const texts = lines.slice(start, headers[i + 1]).map((line) => line.text);
    const table = tableOfLines(texts[0] ?? "", texts.slice(1));
    return table === undefined ? [] : [table];
  });
}

/** Larger text is no answer: every row is padded to the header's width, so that a long header could cost gigabytes. */
const maxCells = 100_000;

/** Rewrites the lines as a well-formed GFM table and lets marked split the cells (escaped pipes, padding, cutting). */
function tableOfLines(header: string, body: readonly string[]): Table | undefined {
  // Without a leading pipe in the header a row that begins with a pipe begins with an empty cell.
  const outerPipe = header.startsWith("|");
  const withPipe = (line: string): string => (outerPipe && line.startsWith("|") ? line : `| ${line}`);
  const head = withPipe(header);
  const pieces = head.match(/\\.|\|/gs) ?? [];
  const numPipes = pieces.filter((piece) => piece === "|").length;
  const width = head.endsWith("|") && pieces.at(-1) === "|" ? numPipes - 1 : numPipes;
  const rows = body.filter((line) => !isSeparator(line)).map(withPipe);
  if (width < 1 || width * (rows.length + 1) > maxCells) return undefined;
  // marked trims U+FEFF like white space, which it is not; a noncharacter stands in for it.
  const source = [head, `|${" --- |".repeat(width)}`, ...rows].join("\n").replaceAll("\u{feff}", "\u{fdd0}");
  const token = new Lexer({ gfm: true }).blockTokens(source, [])[0];
  if (token?.type !== "table") return undefined;
  const cells = (row: { text: string }[]): string[] => row.map((cell) => cellText(cell.text));
  const columns = cells(token.header);
  const named = columns.flatMap((name, index) => (name === "" ? [] : [index]));
  const pick = (row: readonly string[]): string[] => named.map((index) => row[index] ?? "");
  return named.length === 0
    ? undefined
    : { columns: pick(columns), rows: token.rows.map((row: { text: string }[]) => pick(cells(row))) };
}

function cellText(text: string): string {
  const decoded = text
    .replaceAll("\u{fdd0}", "\u{feff}")
    .replace(/<br\s*\/?>/gi, "\n")
    .replace(/&#124;|&#x7c;|&vert;|&verbar;/gi, "|");
  return unquote(trimSpace(decoded));
}

/** `"a ""b"""` is `a "b"` as in CSV; any other use of quotes is text. */
export function unquote(text: string): string {
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"')) return text;
  const inner = text.slice(1, -1);
  return inner.replaceAll('""', "").includes('"') ? text : trimSpace(inner.replaceAll('""', '"'));
}

/** Reads a CSV text with a header line. Short rows are filled, excess cells dropped. Throws WS_CORRUPT_FILE. */
export function parseCsvTable(text: string): Table {
  let records: string[][];
  try {
    records = parseCsv(text, {
      bom: true,
      record_delimiter: ["\r\n", "\n", "\r"],
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
    });
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `gold table: not CSV: ${errorMessage(error)}`, { cause: error });
  }
  const columns = records[0];
  if (columns === undefined) {
    throw new WideSeekError("WS_CORRUPT_FILE", "gold table: the CSV text is empty; a header line is needed");
  }
  return { columns, rows: records.slice(1).map((row) => columns.map((_, index) => row[index] ?? "")) };
}
