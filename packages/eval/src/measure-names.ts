// How measures and their values are written for people. Owns no numbers.
import type { Estimate } from "./bootstrap.ts";
import { escapeHtml } from "./html.ts";
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

/** What stands beside a score whose episodes were not all judged. */
export const boundsMeaning: string =
  "In brackets: the score if all episodes without judgement were wrong, and if all were right. They are no random part, " +
  "since exact matches need no judge, so the score beside it may say too much or too little.";

/** "[0.333–0.667]" */
export function boundsText({ low, high }: NonNullable<Estimate["bounds"]>): string {
  return `[${fraction(low)}–${fraction(high)}]`;
}

/** A table cell: the mean, its interval and its bounds. */
export function estimateCell(estimate: Estimate | undefined): string {
  if (estimate === undefined) return "<td>–</td>";
  const { mean, low, high, bounds } = estimate;
  // NaN is null in JSON.
  const score = Number.isFinite(mean) ? `${fraction(mean)} <small>${fraction(low)}–${fraction(high)}</small>` : "–";
  return `<td>${score}${bounds ? ` <span class="bad">${escapeHtml(boundsText(bounds))}</span>` : ""}</td>`;
}

/** True of a score, and of none that has bounds. */
export function isShown(estimate: Estimate | undefined): estimate is Estimate {
  return estimate !== undefined && (Number.isFinite(estimate.mean) || estimate.bounds !== undefined);
}

/** A table cell with its sign; what rounds to nothing has neither sign nor colour. */
export function changeCell(change: number): string {
  if (!Number.isFinite(change)) return "<td>–</td>";
  const size = fraction(Math.abs(change));
  if (Number(size) === 0) return `<td>${size}</td>`;
  return `<td class="${change < 0 ? "loss" : "gain"}">${change < 0 ? "−" : "+"}${size}</td>`;
}
