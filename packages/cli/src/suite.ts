// `eval --suite`: the rows of a published table. Owns the printed table.
import { loadSuite, runSuite, suiteText } from "@wideseek/core";
import { FailedRun, judgeFailure } from "./failed-run.ts";
import { type RunFlags, runOptions } from "./run-options.ts";
import { stopOnSignal } from "./stop.ts";

export interface SuiteFlags extends RunFlags {
  suite: string;
  rows?: string;
}

/** @throws FailedRun at the end; what the caller did wrong, before anything starts */
export async function runSuiteCommand(flags: SuiteFlags): Promise<void> {
  using stop = stopOnSignal();
  const { name, suite } = await loadSuite(flags.suite);
  const options = await runOptions("suite", flags);
  const rows = flags.rows?.split(",").map((id) => id.trim());
  const report = await runSuite({ ...options, name, suite, rows, progress: process.stderr, signal: stop.signal });
  console.log(suiteText(report));
  console.log(
    `\ntable: ${options.directory}/suite.md, figure: ${options.directory}/suite.svg, report: ${options.directory}/report.html`,
  );
  const failed = report.rows.filter(({ status }) => status === "failed").map(({ id }) => id);
  if (failed.length > 0) throw new FailedRun(`rows that could not run: ${failed.join(", ")}; the table says why`);
  if (report.rows.every(({ status }) => status === "missing")) {
    throw new FailedRun(
      "no row could run: their models are not there; name them under suite.models of the config, as configs/suite-embedded.yaml does",
    );
  }
  if (report.judgeFailed) throw new FailedRun(judgeFailure(options.directory));
}
