// `eval`: held-out scores of a model and its sweeps. Owns the printed summary.
import type { Command } from "commander";
import { type RunFlags, runCommand, withRun } from "./run-options.ts";
import { scoreTable } from "./score-table.ts";

export function evalCommand(): Command {
  return runCommand("eval", "Avg@k, Max@k and Pass@k of a model on held-out questions, and sweeps over limits")
    .option("--model <dir>", "short for --set model.directory")
    .action(async (flags: RunFlags & { model?: string }) => {
      const set = flags.model === undefined ? flags.set : [...flags.set, `model.directory=${flags.model}`];
      await withRun("eval", { ...flags, set }, async (run) => {
        console.log(scoreTable(await run.evaluate()));
        console.log(`report: ${run.directory}/report.html`);
      });
    });
}
