import { WideSeekError } from "@wideseek/spec";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseCsvTable, parseMarkdownTable } from "./table-parse.ts";

const fenced = (body: string, tag = "markdown"): string => `\`\`\`${tag}\n${body}\n\`\`\``;
const rows = (text: string): readonly (readonly string[])[] | undefined => parseMarkdownTable(text, "last")?.rows;
const head = "| A | B |\n|---|---|\n";

describe("parseMarkdownTable", () => {
  it("drops excess cells and fills missing ones", () => {
    expect(rows(fenced(`${head}| 1 | 2 | 3 |\n| 4 |`))).toEqual([
      ["1", "2"],
      ["4", ""],
    ]);
  });

  it("keeps pipes that are escaped or written as entities", () => {
    expect(rows(fenced(`${head}| a\\|b | c&#124;d |`))).toEqual([["a|b", "c|d"]]);
  });

  it("unquotes whole cells only", () => {
    expect(rows(fenced(`${head}| "a ""b""" | "x" y |\n| "open | 5" |`))).toEqual([
      ['a "b"', '"x" y'],
      ['"open', '5"'],
    ]);
  });

  it("takes the first or the last fence", () => {
    const text = `${fenced(`${head}| 1 | 2 |`)}\nor\n${fenced(`${head}| 3 | 4 |`)}`;
    expect(parseMarkdownTable(text, "first")?.rows).toEqual([["1", "2"]]);
    expect(parseMarkdownTable(text, "last")?.rows).toEqual([["3", "4"]]);
  });

  it("prefers fences tagged markdown to any other table", () => {
    expect(rows(`${fenced(`${head}| 1 | 2 |`)}\n${fenced(`${head}| 3 | 4 |`, "text")}\n${head}| 5 | 6 |`)).toEqual([
      ["1", "2"],
    ]);
  });

  it("reads line breaks, tabs, BOM and CRLF", () => {
    const text = `\u{feff}${fenced("|\tA\t|\tB\t|\r\n|\t---\t|\t---\t|\r\n| x<br>y | 2 |")}`;
    expect(parseMarkdownTable(text, "last")).toEqual({ columns: ["A", "B"], rows: [["x\ny", "2"]] });
  });

  it("finds tables without a fence, without outer pipes, indented, quoted, after prose with pipes", () => {
    for (const text of [
      "Choose a | b.\nA | B\n--- | ---\n1 | 2\n\nDone.",
      "    | A | B |\n    |---|---|\n    | 1 | 2 |",
      "> | A | B |\n> |---|---|\n> | 1 | 2 |",
      "| A | B |\n| 1 | 2 |",
      `\`\`\`markdown\n${head}| 1 | 2 |`,
      "```markdown| A | B |\n|---|---|\n| 1 | 2 |```",
    ]) {
      expect(parseMarkdownTable(text, "last"), text).toEqual({ columns: ["A", "B"], rows: [["1", "2"]] });
    }
  });

  it("keeps an empty first cell where the table has no outer pipes", () => {
    expect(rows(fenced("A | B\n--|--\n | 2"))).toEqual([["", "2"]]);
  });

  it("drops columns without a name", () => {
    expect(parseMarkdownTable("| | A |\n|--|--|\n| 1 | x |", "last")).toEqual({ columns: ["A"], rows: [["x"]] });
  });

  it.each(["", "no table", "a | b | c", "```json\n{}\n```", "```markdown\n```", "|", "|||\n|||"])(
    "no table: %j",
    (text) => {
      expect(parseMarkdownTable(text, "first")).toBeUndefined();
    },
  );

  it("gives rows as wide as the header for any text", () => {
    const piece = fc.constantFrom(
      "|",
      "-",
      ":",
      "\\",
      "\n",
      "\r\n",
      '"',
      "`",
      "```markdown\n",
      "```",
      "a",
      " ",
      "\t",
      "<br>",
      ">",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 200 }),
      fc.array(piece, { maxLength: 80 }).map((p) => p.join("")),
    );
    fc.assert(
      fc.property(text, fc.constantFrom("first" as const, "last" as const), (source, fence) => {
        const table = parseMarkdownTable(source, fence);
        for (const row of table?.rows ?? []) expect(row.length).toBe(table?.columns.length);
      }),
      { numRuns: 2000 },
    );
  });

  it("gives back any cells that were written with escaped pipes", () => {
    const cell = fc.stringMatching(/^[a-z|0-9.,;'()é中]{0,8}$/);
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 6 }), (cells) => {
        const written = cells.map((row) => ["k", ...row]);
        const lines = written.map((row) => `| ${row.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`);
        expect(rows(fenced(`| A | B | C |\n|---|---|---|\n${lines.join("\n")}`))).toEqual(written);
      }),
    );
  });

  it("refuses a table whose padding would exhaust memory", () => {
    expect(rows(`${"|a".repeat(1000)}|\n${"|x\n".repeat(1000)}`)).toBeUndefined();
  });
});

describe("parseCsvTable", () => {
  it("reads quotes, line breaks in cells, BOM, mixed line ends and ragged rows", () => {
    expect(parseCsvTable('\u{feff}A,B\r\n"x, ""y""","1\n2"\n3\r\n4,5,6\r\n')).toEqual({
      columns: ["A", "B"],
      rows: [
        ['x, "y"', "1\n2"],
        ["3", ""],
        ["4", "5"],
      ],
    });
  });

  it("names the file as corrupt when there is nothing to read", () => {
    expect(() => parseCsvTable("")).toThrow(WideSeekError);
    expect(() => parseCsvTable('A,B\n"open')).toThrow(/not CSV/);
  });
});
