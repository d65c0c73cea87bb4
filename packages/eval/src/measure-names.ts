// How measures and their values are written for people. Owns no numbers.
import type { AtK, Measure } from "./metrics.ts";

const names: Readonly<Record<Measure, string>> = {
  itemF1: "item F1",
  itemPrecision: "item precision",
  itemRecall: "item recall",
  rowF1: "row F1",
  rowPrecision: "row precision",
  rowRecall: "row recall",
  success: "success",
  qaScore: "fact",
  qaExactMatch: "fact exact match",
  qaTokenF1: "fact token F1",
};

/** "itemF1" -> "item F1"; any other name as it is. */
export function measureName(measure: string): string {
  return (names as Readonly<Record<string, string>>)[measure] ?? measure;
}

/** "item F1 avg@4" */
export function measureTitle(measure: Measure, statistic: keyof AtK, samples: number): string {
  return `${measureName(measure)} ${statistic}@${samples}`;
}

/** Three decimals: scores are fractions everywhere, never percent. */
export function fraction(value: number): string {
  return value.toFixed(3);
}

/** A table cell with its sign; what rounds to nothing has neither sign nor colour. */
export function changeCell(change: number): string {
  if (!Number.isFinite(change)) return "<td>–</td>";
  const size = fraction(Math.abs(change));
  if (Number(size) === 0) return `<td>${size}</td>`;
  return `<td class="${change < 0 ? "loss" : "gain"}">${change < 0 ? "−" : "+"}${size}</td>`;
}
