// `eval`: held-out scores of a model and its sweeps. Owns the printed summary.
import type { Command } from "commander";
import { FailedRun, judgeFailure } from "./failed-run.ts";
import { invalid, type RunFlags, runCommand, withResumeFlag, withRun } from "./run-options.ts";
import { scoreTable } from "./score-table.ts";
import { runSuiteCommand } from "./suite.ts";

export function evalCommand(): Command {
  return withResumeFlag(
    runCommand("eval", "Avg@k, Max@k and Pass@k of a model on held-out questions, and sweeps over limits"),
  )
    .option("--model <dir>", "short for --set model.directory")
    .option(
      "--suite <name>",
      "rows of a published table instead of one model: paper-table1, paper-table2, or a YAML file",
    )
    .option("--rows <ids>", "with --suite: only these rows, with commas between them")
    .action(async (flags: RunFlags & { model?: string; suite?: string; rows?: string }) => {
      const { suite, ...rest } = flags;
      if (suite !== undefined) {
        if (flags.model !== undefined) throw invalid("--model: the rows of a suite name their models; leave it out");
        return await runSuiteCommand({ ...rest, suite });
      }
      if (flags.rows !== undefined) throw invalid("--rows: only a suite has rows; add --suite");
      const set = flags.model === undefined ? flags.set : [...flags.set, `model.directory=${flags.model}`];
      await withRun("eval", { ...flags, set }, async (run) => {
        const results = await run.evaluate();
        console.log(scoreTable(results));
        const figures = results.flatMap(({ figures }) => figures);
        for (const figure of figures) console.log(`figure: ${figure}`);
        console.log(`report: ${run.directory}/report.html`);
        if (results.some(({ judgeFailed }) => judgeFailed)) throw new FailedRun(judgeFailure(run.directory));
      });
    });
}
