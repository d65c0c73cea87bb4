// The first column of a suite's table as bars: ours beside the published figures. Owns which bars there are.
import { barChart } from "@wideseek/eval";
import type { SuiteReport } from "./suite-report.ts";

/** SVG text; rows without either figure are left out. */
export function suiteFigure({ title, columns, rows }: SuiteReport): string {
  const [column] = columns;
  const groups = rows.flatMap(({ id, figures }) => {
    const { ours, published } = figures[column?.id ?? ""] ?? { ours: null, published: null };
    if (ours === null && published === null) return [];
    const bars = [
      { label: "ours", value: ours?.mean ?? Number.NaN, low: ours?.low, high: ours?.high },
      { label: "published", value: published ?? Number.NaN },
    ];
    return [{ name: id, bars }];
  });
  const yLabel = `${column?.label ?? ""}, percent; interval over questions`;
  return barChart({ title, yLabel, groups, digits: 1 });
}
