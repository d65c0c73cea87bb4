// `eval`: held-out scores of a model and its sweeps. Owns the printed summary.
import type { Command } from "commander";
import { type RunFlags, runCommand, withResumeFlag, withRun } from "./run-options.ts";
import { scoreTable } from "./score-table.ts";

export function evalCommand(): Command {
  return withResumeFlag(
    runCommand("eval", "Avg@k, Max@k and Pass@k of a model on held-out questions, and sweeps over limits"),
  )
    .option("--model <dir>", "short for --set model.directory")
    .action(async (flags: RunFlags & { model?: string }) => {
      const set = flags.model === undefined ? flags.set : [...flags.set, `model.directory=${flags.model}`];
      await withRun("eval", { ...flags, set }, async (run) => {
        const results = await run.evaluate();
        console.log(scoreTable(results));
        for (const { name, report } of results) {
          if (report.numUnjudged > 0) {
            console.log(
              `${name}: ${report.numUnjudged} of ${report.numEpisodes} episodes not judged, in no score; see the report`,
            );
          }
        }
        const figures = results.flatMap(({ figures }) => figures);
        for (const figure of figures) console.log(`figure: ${figure}`);
        console.log(`report: ${run.directory}/report.html`);
      });
    });
}
