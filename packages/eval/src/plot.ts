// Line charts as self-contained SVG text: axes, ticks, legend, confidence bands. No dependency, no script.
import { escapeHtml } from "./html.ts";

export interface ChartPoint {
  x: number;
  y: number;
  /** Confidence band; both or neither. */
  low?: number | undefined;
  high?: number | undefined;
}

export interface ChartSeries {
  name: string;
  /** Ascending in x. Points that are not finite leave a gap. */
  points: readonly ChartPoint[];
}

export interface LineChart {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly ChartSeries[];
  /** Default "linear"; "log2" for 1, 2, 4, 8 and needs x > 0. */
  xScale?: "linear" | "log2" | undefined;
  /** Default: the data's range, widened to round ticks. */
  yRange?: readonly [number, number] | undefined;
  /** Pixels; default 640 x 360. */
  width?: number | undefined;
  height?: number | undefined;
}

/** Okabe and Ito's colours: told apart with any colour vision. */
const colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/** Round tick positions (1, 2 or 5 times a power of ten) that cover low..high. */
export function ticks(low: number, high: number, target: number): number[] {
  if (!(high > low)) {
    const margin = Math.abs(low) * 0.1 || 1;
    return ticks(low - margin, low + margin, target);
  }
  const rough = (high - low) / target;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  // Multiplying keeps 0.3 from becoming 0.30000000000000004 by repeated addition.
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function tickLabel(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(6)));
}

interface Axis {
  position(value: number): number;
  ticks: number[];
}

function linearAxis(ticksInRange: number[], from: number, to: number): Axis {
  const low = ticksInRange[0] ?? 0;
  const high = ticksInRange.at(-1) ?? 1;
  return { position: (value) => from + ((value - low) / (high - low)) * (to - from), ticks: ticksInRange };
}

function log2Axis(values: readonly number[], from: number, to: number): Axis {
  const low = Math.floor(Math.log2(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log2(Math.max(...values))));
  const position = (value: number): number => from + ((Math.log2(value) - low) / (high - low)) * (to - from);
  return { position, ticks: Array.from({ length: high - low + 1 }, (_, index) => 2 ** (low + index)) };
}

const isDrawable = (point: ChartPoint): boolean => Number.isFinite(point.x) && Number.isFinite(point.y);

/** Runs of neighbouring points that can be joined. */
function runs(points: readonly ChartPoint[]): ChartPoint[][] {
  const found: ChartPoint[][] = [];
  let current: ChartPoint[] = [];
  for (const point of points) {
    if (isDrawable(point)) {
      if (current.length === 0) found.push(current);
      current.push(point);
    } else current = [];
  }
  return found;
}

const pixel = (value: number): string => value.toFixed(1);

function drawSeries(series: ChartSeries, color: string, x: Axis, y: Axis): string {
  const parts: string[] = [];
  for (const run of runs(series.points)) {
    const banded = run.filter((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
    if (banded.length > 1) {
      const upper = banded.map((point) => `${pixel(x.position(point.x))},${pixel(y.position(point.high ?? point.y))}`);
      const lower = banded.map((point) => `${pixel(x.position(point.x))},${pixel(y.position(point.low ?? point.y))}`);
      parts.push(`<polygon points="${[...upper, ...lower.reverse()].join(" ")}" fill="${color}" fill-opacity="0.15"/>`);
    }
    const line = run.map((point) => `${pixel(x.position(point.x))},${pixel(y.position(point.y))}`).join(" ");
    parts.push(`<polyline points="${line}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round"/>`);
    if (run.length <= 24) {
      for (const point of run) {
        const value = `${series.name}: ${tickLabel(point.x)}, ${tickLabel(Number(point.y.toPrecision(4)))}`;
        parts.push(
          `<circle cx="${pixel(x.position(point.x))}" cy="${pixel(y.position(point.y))}" r="3" fill="${color}"><title>${escapeHtml(value)}</title></circle>`,
        );
      }
    }
  }
  return parts.join("\n");
}

function legend(series: readonly ChartSeries[], left: number, top: number): string {
  return series
    .map(({ name }, index) => {
      const y = top + index * 18;
      const color = colors[index % colors.length];
      return `<rect x="${left}" y="${y - 5}" width="16" height="4" fill="${color}"/><text x="${left + 22}" y="${y}" dominant-baseline="middle">${escapeHtml(name)}</text>`;
    })
    .join("\n");
}

/** One `<svg>` element; an empty chart says so instead of drawing. */
export function lineChart(chart: LineChart): string {
  const { width = 640, height = 360 } = chart;
  const points = chart.series.flatMap((series) => series.points).filter(isDrawable);
  const longestName = Math.max(0, ...chart.series.map((series) => series.name.length));
  const showLegend = chart.series.length > 1;
  const box = { left: 64, right: width - (showLegend ? 48 + longestName * 7 : 20), top: 36, bottom: height - 48 };
  const frame = (content: string): string =>
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeHtml(chart.title)}" font-family="system-ui, sans-serif" font-size="12" fill="#222">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${box.left}" y="20" font-size="14" font-weight="600">${escapeHtml(chart.title)}</text>
${content}
</svg>`;
  if (points.length === 0) return frame(`<text x="${box.left}" y="${height / 2}">no data</text>`);

  const xs = points.map((point) => point.x);
  const ys = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]).filter(Number.isFinite);
  const [low, high] = chart.yRange ?? [Math.min(...ys), Math.max(...ys)];
  const x =
    chart.xScale === "log2"
      ? log2Axis(xs, box.left, box.right)
      : linearAxis(ticks(Math.min(...xs), Math.max(...xs), 8), box.left, box.right);
  const y = linearAxis(ticks(low, high, 5), box.bottom, box.top);

  const grid = y.ticks.map(
    (value) =>
      `<line x1="${box.left}" x2="${pixel(box.right)}" y1="${pixel(y.position(value))}" y2="${pixel(y.position(value))}" stroke="#ddd"/><text x="${box.left - 8}" y="${pixel(y.position(value))}" text-anchor="end" dominant-baseline="middle">${tickLabel(value)}</text>`,
  );
  const marks = x.ticks.map(
    (value) =>
      `<line x1="${pixel(x.position(value))}" x2="${pixel(x.position(value))}" y1="${box.bottom}" y2="${box.bottom + 5}" stroke="#222"/><text x="${pixel(x.position(value))}" y="${box.bottom + 18}" text-anchor="middle">${tickLabel(value)}</text>`,
  );
  const middle = (box.top + box.bottom) / 2;
  return frame(
    [
      ...grid,
      `<line x1="${box.left}" x2="${pixel(box.right)}" y1="${box.bottom}" y2="${box.bottom}" stroke="#222"/>`,
      ...marks,
      `<text x="${pixel((box.left + box.right) / 2)}" y="${height - 10}" text-anchor="middle">${escapeHtml(chart.xLabel)}</text>`,
      `<text x="16" y="${middle}" text-anchor="middle" transform="rotate(-90 16 ${middle})">${escapeHtml(chart.yLabel)}</text>`,
      ...chart.series.map((series, index) => drawSeries(series, colors[index % colors.length] ?? "#222", x, y)),
      showLegend ? legend(chart.series, box.right + 14, box.top + 8) : "",
    ].join("\n"),
  );
}
