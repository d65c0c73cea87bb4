// Tables of pages as plain grids: every row as wide as the table, spans filled in, one row of headings. Owns what is a
// table of data at all; many are only there for the layout.

/** A page may claim spans of any size; this is more than any table that is read. */
const maxCells = 100_000;
const maxSpan = 1000;

/**
 * Rewrites all tables under `root` in place. Values of cells that span rows are repeated in each of them: a row must be
 * complete on its own, since models read rows.
 */
export function simplifyTables(root: Element): void {
  // Inner tables first: a cell can hold text only.
  const tables = Array.from(root.querySelectorAll("table")).reverse();
  for (const table of tables) {
    const rows = rowsOf(table);
    const isInner = table.parentElement?.closest("table") != null;
    const numColumns = Math.max(0, ...rows.map((row) => cellsOf(row).length));
    const isData = !isInner && rows.length >= 2 && numColumns >= 2 && table.getAttribute("role") !== "presentation";
    if (isData) replaceByGrid(table, rows);
    else unwrap(table, rows);
  }
}

function rowsOf(table: Element): Element[] {
  const sections = Array.from(table.children);
  return sections.flatMap((section) => {
    if (section.tagName === "TR") return [section];
    return ["THEAD", "TBODY", "TFOOT"].includes(section.tagName) ? Array.from(section.children).filter(isRow) : [];
  });
}

const isRow = (element: Element): boolean => element.tagName === "TR";
const cellsOf = (row: Element): Element[] =>
  Array.from(row.children).filter(({ tagName }) => tagName === "TD" || tagName === "TH");

function span(cell: Element, attribute: "rowspan" | "colspan"): number {
  const value = Number.parseInt(cell.getAttribute(attribute) ?? "1", 10);
  // 0 = to the end of the section, for rows.
  if (value === 0 && attribute === "rowspan") return maxSpan;
  return Number.isFinite(value) ? Math.min(Math.max(value, 1), maxSpan) : 1;
}

interface Place {
  cell: Element;
  /** False where a cell reaches further to the right across the whole table: a heading between rows, said once. */
  shown: boolean;
}

function replaceByGrid(table: Element, rows: readonly Element[]): void {
  const document = table.ownerDocument;
  const grid = gridOf(rows);
  const width = Math.max(...grid.map((row) => row.length));
  const numHeadings = countHeadings(rows, grid);

  const body = document.createElement("tbody");
  const addRow = (texts: readonly (Element | string)[]): void => {
    const row = document.createElement("tr");
    for (let column = 0; column < width; column += 1) {
      const cell = document.createElement("td");
      const content = texts[column] ?? "";
      if (typeof content === "string") cell.textContent = content;
      else for (const child of Array.from(content.childNodes)) cell.appendChild(child.cloneNode(true));
      row.appendChild(cell);
    }
    body.appendChild(row);
  };
  if (numHeadings > 0) addRow(headings(grid.slice(0, numHeadings), width));
  for (const row of grid.slice(numHeadings)) addRow(row.map((place) => (place?.shown ? place.cell : "")));

  const caption = Array.from(table.children).find(({ tagName }) => tagName === "CAPTION");
  while (table.firstChild) table.removeChild(table.firstChild);
  table.appendChild(body);
  if (caption?.textContent?.trim()) {
    const paragraph = document.createElement("p");
    paragraph.textContent = caption.textContent.trim();
    table.parentNode?.insertBefore(paragraph, table);
  }
}

function gridOf(rows: readonly Element[]): (Place | undefined)[][] {
  const grid: (Place | undefined)[][] = rows.map(() => []);
  let numCells = 0;
  for (const [index, row] of rows.entries()) {
    const line = grid[index] as (Place | undefined)[];
    let column = 0;
    for (const cell of cellsOf(row)) {
      while (line[column] !== undefined) column += 1;
      const height = Math.min(span(cell, "rowspan"), rows.length - index);
      const width = span(cell, "colspan");
      const isBetweenRows = width > 1 && cellsOf(row).length === 1;
      for (let down = 0; down < height; down += 1) {
        for (let right = 0; right < width; right += 1) {
          numCells += 1;
          if (numCells > maxCells) return grid;
          const target = grid[index + down] as (Place | undefined)[];
          target[column + right] ??= { cell, shown: right === 0 || !isBetweenRows };
        }
      }
      column += width;
    }
  }
  return grid;
}

/** Rows at the top that have headings only. */
function countHeadings(rows: readonly Element[], grid: readonly (Place | undefined)[][]): number {
  const first = rows.findIndex((row) => cellsOf(row).some(({ tagName }) => tagName !== "TH"));
  const atTop = first < 0 ? grid.length : first;
  return atTop === grid.length ? 1 : atTop;
}

/** Several rows of headings in one: "Medals" above "Gold" becomes "Medals / Gold". */
function headings(lines: readonly (Place | undefined)[][], width: number): (Element | string)[] {
  return Array.from({ length: width }, (_, column) => {
    const cells = lines.map((line) => line[column]?.cell).filter((cell) => cell !== undefined);
    const texts = new Set(cells.map((cell) => (cell.textContent ?? "").replaceAll(/\s+/g, " ").trim()));
    texts.delete("");
    return [...texts].join(" / ");
  });
}

/** A table without data is the blocks that its cells are. */
function unwrap(table: Element, rows: readonly Element[]): void {
  const document = table.ownerDocument;
  const block = document.createElement("div");
  for (const cell of rows.flatMap(cellsOf)) {
    const part = document.createElement("div");
    while (cell.firstChild) part.appendChild(cell.firstChild);
    block.appendChild(part);
  }
  table.parentNode?.replaceChild(block, table);
}
