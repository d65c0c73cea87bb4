// Bars of one score over several runs with their intervals, as self-contained SVG text. No dependency, no script.
import { escapeHtml } from "./html.ts";
import { ticks } from "./plot.ts";

export interface Bar {
  label: string;
  value: number;
  /** Confidence interval; both or neither. */
  low?: number | undefined;
  high?: number | undefined;
}

export interface BarGroup {
  /** What is measured. */
  name: string;
  bars: readonly Bar[];
}

export interface BarChart {
  title: string;
  yLabel: string;
  groups: readonly BarGroup[];
  /** Decimal places of the numbers above the bars; default 3. */
  digits?: number | undefined;
}

/** Okabe and Ito's colours: told apart with any colour vision. */
const colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const HEIGHT = 360;
const BAR_WIDTH = 34;
const CHARACTER_WIDTH = 6.5;
const GROUP_GAP = 44;
const TOP = 48;
const LINE = 15;
/** A longer name goes on in a line of its own. */
const NAME_CHARACTERS = 16;
const LEFT = 64;

const pixel = (value: number): string => value.toFixed(1);

/** One `<svg>` element; bars begin at 0. Groups have the same labels in the same order. */
export function barChart({ title, yLabel, groups, digits = 3 }: BarChart): string {
  const bars = groups.flatMap((group) => group.bars).filter(({ value }) => Number.isFinite(value));
  const labels = [...new Set(groups.flatMap((group) => group.bars.map(({ label }) => label)))];
  const names = groups.map(({ name }) => wrap(name));
  const longestName = Math.max(0, ...names.flat().map((line) => line.length)) * CHARACTER_WIDTH;
  const bottom = HEIGHT - 25 - LINE * Math.max(1, ...names.map((lines) => lines.length));
  const groupWidth = Math.max(labels.length * BAR_WIDTH + GROUP_GAP, longestName + GROUP_GAP / 2);
  const legendWidth = 40 + Math.max(0, ...labels.map((label) => label.length)) * 7;
  const right = LEFT + Math.max(groups.length, 1) * groupWidth;
  const width = Math.max(right + legendWidth + 20, LEFT + title.length * 8);
  const marks = ticks(0, Math.max(1e-9, ...bars.map(({ value, high }) => Math.max(value, high ?? value))), 5);
  const top = marks.at(-1) ?? 1;
  const y = (value: number): number => bottom - (value / top) * (bottom - TOP);
  const grid = marks.map(
    (value) =>
      `<line x1="${LEFT}" x2="${right}" y1="${pixel(y(value))}" y2="${pixel(y(value))}" stroke="#ddd"/><text x="${LEFT - 8}" y="${pixel(y(value))}" text-anchor="end" dominant-baseline="middle">${Number(value.toPrecision(6))}</text>`,
  );
  const drawn = groups.map((group, index) => {
    const middle = LEFT + (index + 0.5) * groupWidth;
    const start = middle - (labels.length * BAR_WIDTH) / 2;
    const name = names[index]?.map(
      (line, row) =>
        `<text x="${pixel(middle)}" y="${bottom + 18 + row * LINE}" text-anchor="middle">${escapeHtml(line)}</text>`,
    );
    return [
      ...(name ?? []),
      ...group.bars.map((bar) => drawBar(bar, { start, index: labels.indexOf(bar.label), y, digits })),
    ].join("\n");
  });
  const legend = labels.map((label, index) => {
    const line = TOP + 8 + index * 18;
    return `<rect x="${right + 14}" y="${line - 6}" width="12" height="12" fill="${colors[index % colors.length]}"/><text x="${right + 32}" y="${line}" dominant-baseline="middle">${escapeHtml(label)}</text>`;
  });
  const center = (TOP + bottom) / 2;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}" role="img" aria-label="${escapeHtml(title)}" font-family="system-ui, sans-serif" font-size="12" fill="#222">
<rect width="${width}" height="${HEIGHT}" fill="#fff"/>
<text x="${LEFT}" y="24" font-size="14" font-weight="600">${escapeHtml(title)}</text>
${[...grid, ...drawn, ...legend].join("\n")}
<text x="16" y="${center}" text-anchor="middle" transform="rotate(-90 16 ${center})">${escapeHtml(yLabel)}</text>
</svg>`;
}

/** Whole words in lines of at most so many characters; a longer word stays whole. */
function wrap(name: string): string[] {
  const lines: string[] = [];
  for (const word of name.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && longer.length <= NAME_CHARACTERS) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

interface BarPlace {
  /** Where the bars of the group begin. */
  start: number;
  /** Of the bar in its group. */
  index: number;
  y: (value: number) => number;
  digits: number;
}

function drawBar({ label, value, low, high }: Bar, { start, index, y, digits }: BarPlace): string {
  if (!Number.isFinite(value)) return "";
  const left = start + index * BAR_WIDTH;
  const middle = pixel(left + BAR_WIDTH / 2);
  const rect = `<rect x="${pixel(left + 2)}" y="${pixel(y(value))}" width="${BAR_WIDTH - 4}" height="${pixel(y(0) - y(value))}" fill="${colors[index % colors.length]}"><title>${escapeHtml(`${label}: ${value.toFixed(digits)}`)}</title></rect>`;
  const number = `<text x="${middle}" y="${pixel(y(Math.max(value, high ?? value)) - 6)}" text-anchor="middle" font-size="10">${value.toFixed(digits)}</text>`;
  if (low === undefined || high === undefined || !Number.isFinite(low) || !Number.isFinite(high)) return rect + number;
  const interval = `<line x1="${middle}" x2="${middle}" y1="${pixel(y(low))}" y2="${pixel(y(high))}" stroke="#222"/>`;
  return rect + interval + number;
}
