// Scores of evaluations as a table for the terminal. Owns no numbers.
import type { EvaluationResult } from "@wideseek/core";
import { boundsMeaning, boundsText, isShown } from "@wideseek/core/tooling";
import { textTable } from "./text-table.ts";

const ROWS = [
  ["item F1", "itemF1", "avg"],
  ["item F1", "itemF1", "max"],
  ["row F1", "rowF1", "avg"],
  ["row F1", "rowF1", "max"],
  ["success", "success", "avg"],
  ["success", "success", "pass"],
  ["fact", "qaScore", "avg"],
  ["fact", "qaScore", "pass"],
  ["exact match", "qaExactMatch", "avg"],
  ["token F1", "qaTokenF1", "avg"],
] as const;

type Report = EvaluationResult["report"];
type Column = { title: string; measures: Report["measures"] };

/** One column an evaluation, language or set, one row a measure; measures that do not apply are left out. */
export function scoreTable(results: readonly Pick<EvaluationResult, "name" | "report">[]): string {
  const columns = results.flatMap(({ name, report }): Column[] => {
    const title = (part: string): string => (results.length === 1 ? part : `${name} ${part}`);
    return [
      { title: name, measures: report.measures },
      ...report.parts.map(({ value, measures }) => ({ title: title(value), measures })),
      ...(report.macro ? [{ title: title("mean of sets"), measures: report.macro }] : []),
    ];
  });
  const k = results[0]?.report.samples ?? 0;
  const rows = ROWS.flatMap(([label, measure, statistic]) => {
    const estimates = columns.map(({ measures }) => measures[measure]?.[statistic]);
    if (!estimates.some(isShown)) return [];
    const cells = estimates.map((estimate) => {
      const { mean = Number.NaN, bounds } = estimate ?? {};
      const score = Number.isFinite(mean) ? mean.toFixed(3) : "-";
      return bounds ? `${score} ${boundsText(bounds)}` : score;
    });
    return [[`${label} ${statistic}@${k}`, ...cells]];
  });
  const unjudged = results.flatMap(({ name, report: { numUnjudged, numEpisodes } }) =>
    numUnjudged > 0 ? [`${name}: ${numUnjudged} of ${numEpisodes} episodes not judged; see the report`] : [],
  );
  const table = textTable([["held-out", ...columns.map(({ title }) => title)], ...rows]);
  return [table, ...unjudged, ...(unjudged.length > 0 ? [`warning: ${boundsMeaning}`] : [])].join("\n");
}
