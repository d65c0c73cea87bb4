// Numbers and params as text of a Markdown table. Owns no figures.
import type { BenchmarkRecord } from "./record.ts";

export function formatNumber(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(3)));
}

export const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

export function paramsText(params: BenchmarkRecord["params"]): string {
  const show = (value: unknown): string =>
    typeof value === "number" ? formatNumber(value) : typeof value === "string" ? value : JSON.stringify(value);
  return Object.entries(params)
    .map(([name, value]) => `${name} ${show(value)}`)
    .join(", ");
}
