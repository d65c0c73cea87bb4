// Curves and tables of a sweep beside its report. Owns their files, not how they are drawn.
import path from "node:path";
import { type Measure, type SweepReport, sweepChart, sweepTable } from "@wideseek/eval";
import { writeAtomic } from "@wideseek/train";

/** The first measure that the questions have. */
const drawn: readonly Measure[] = ["itemF1", "qaScore"];

/** eval/NAME-PARAMETER.svg and .md for every sweep; their paths. @throws WS_IO */
export async function writeSweepFigures(
  directory: string,
  name: string,
  sweeps: readonly SweepReport[],
): Promise<string[]> {
  const files: string[] = [];
  for (const sweep of sweeps) {
    const measures = sweep.points[0]?.report.measures ?? {};
    const measure = drawn.find((each) => measures[each] !== undefined) ?? "itemF1";
    const base = path.join(directory, "eval", `${name}-${sweep.parameter}`);
    await writeAtomic(`${base}.svg`, `${sweepChart([{ name, sweep }], measure)}\n`);
    await writeAtomic(`${base}.md`, sweepTable([{ name, sweep }]));
    files.push(`${base}.svg`, `${base}.md`);
  }
  return files;
}
