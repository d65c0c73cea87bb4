// What is kept of a page: above all its tables and lists.
import { describe, expect, test } from "vitest";
import { pageMarkdown } from "./page-markdown.ts";

const page = (body: string, head = ""): string =>
  pageMarkdown(`<html><head>${head}</head><body>${body}</body></html>`, "https://a.example/wiki/Page");

describe("tables", () => {
  test("one row of headings, one line a row", () => {
    expect(page("<table><tr><th>Lake</th><th>Fish</th></tr><tr><td>Puktol</td><td>perch</td></tr></table>")).toBe(
      "| Lake | Fish |\n| --- | --- |\n| Puktol | perch |",
    );
  });

  test("spans are filled in, so that each row is complete", () => {
    const rows =
      '<tr><th rowspan="2">Year</th><th colspan="2">Medals</th></tr><tr><th>Gold</th><th>Silver</th></tr>' +
      '<tr><td rowspan="2">1990</td><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr>' +
      '<tr><td colspan="3">Second part</td></tr><tr><td>1991</td><td colspan="2">none</td></tr>';
    expect(page(`<table><caption>Medals by year</caption>${rows}</table>`)).toBe(
      [
        "Medals by year",
        "",
        "| Year | Medals / Gold | Medals / Silver |",
        "| --- | --- | --- |",
        "| 1990 | 1 | 2 |",
        "| 1990 | 3 | 4 |",
        "| Second part |  |  |",
        "| 1991 | none | none |",
      ].join("\n"),
    );
  });

  test.each([
    ["a bar", "<td>a|b</td>", "| a\\|b | x |"],
    ["a line break", "<td>a<br>b</td>", "| a b | x |"],
    ["a list", "<td><ul><li>a</li><li>b</li></ul></td>", "| - a - b | x |"],
    ["a link", '<td><a href="/wiki/A" title="A">a</a></td>', "| [a](https://a.example/wiki/A) | x |"],
    ["a note", '<td>a<sup class="reference">[1]</sup></td>', "| a | x |"],
    ["nothing", "<td></td>", "|  | x |"],
  ])("a cell with %s stays one cell", (_, cell, line) => {
    expect(page(`<table><tr><th>A</th><th>B</th></tr><tr>${cell}<td>x</td></tr></table>`).split("\n")[2]).toBe(line);
  });

  test("short rows are filled up, sections are one table, spans without end end", () => {
    const text = page(
      '<table><thead><tr><th>A</th><th>B</th><th>C</th></tr></thead><tbody><tr><td rowspan="0">1</td></tr><tr><td>2</td></tr></tbody><tfoot><tr><td>3</td></tr></tfoot></table>',
    );
    expect(text.split("\n").slice(2)).toEqual(["| 1 |  |  |", "| 1 | 2 |  |", "| 1 | 3 |  |"]);
  });

  test("a table for the layout is the blocks that it has, an inner table is text", () => {
    const inner = "<table><tr><td>in</td><td>ner</td></tr><tr><td>a</td><td>b</td></tr></table>";
    expect(page(`<table><tr><td><p>Left.</p></td><td><p>Right.</p></td></tr></table>`)).toBe("Left.\n\nRight.");
    expect(page(`<table><tr><th>A</th><th>B</th></tr><tr><td>${inner}</td><td>x</td></tr></table>`)).toContain(
      "| in ner a b | x |",
    );
  });

  test("a table of hundreds of rows among little text is kept whole", () => {
    const rows = Array.from({ length: 600 }, (_, index) => `<tr><td>Lake ${index}</td><td>fish</td></tr>`).join("");
    const text = page(`<h1>Lakes</h1><p>All of them.</p><table><tr><th>Lake</th><th>Fish</th></tr>${rows}</table>`);
    expect(text.split("\n").filter((line) => line.startsWith("| Lake "))).toHaveLength(601);
  });
});

describe("text", () => {
  test("headings, lists, code and emphasis", () => {
    const body =
      "<main><h1>T</h1><h2>Fish</h2><ul><li>one<ul><li>two</li></ul></li></ul><ol><li>a</li><li>b</li></ol><pre><code>x  y</code></pre><p>a_b <b>c</b> 1. d</p></main>";
    expect(page(body)).toBe("# T\n\n## Fish\n\n- one\n    - two\n\n1. a\n2. b\n\n```\nx  y\n```\n\na_b **c** 1. d");
  });

  test("what stands around the text is left out", () => {
    const body =
      "<nav><a href='/'>Home</a></nav><header>Site</header><main><h1>Lakes</h1><p>Puktol is a lake.</p><aside>Buy</aside></main><footer>2024</footer>" +
      "<script>x()</script><style>p{}</style><p hidden>h</p><p style='display: none'>n</p><template><p>t</p></template>";
    expect(page(body)).toBe("# Lakes\n\nPuktol is a lake.");
  });

  test("prose loses what surrounds it even without any marks", () => {
    const prose =
      "<p>A long paragraph of prose, with commas, and more words, so that it counts as an article, indeed it does.</p>".repeat(
        15,
      );
    const text = page(
      `<div id="sidebar" class="sidebar menu"><p>Buy now</p></div><div class="content">${prose}</div>`,
      "<title>Prose</title>",
    );
    expect(text).toMatch(/^# Prose\n\nA long paragraph/);
    expect(text).not.toContain("Buy now");
  });

  test("links are complete and safe to write", () => {
    expect(
      page('<p><a href="x_(y)">a</a> <a href="#z">b</a> <a href="javascript:c()">c</a> <a href="mailto:d">d</a></p>'),
    ).toBe("[a](https://a.example/wiki/x_%28y%29) b c d");
  });

  test.each(["", "<", "<p>", "<html></html>", "<table>", "<tr><td>x", "&#x110000;", "\u0000<b>\u0000"])(
    "%j is no trouble",
    (html) => {
      expect(typeof pageMarkdown(html, "not an address")).toBe("string");
    },
  );
});
