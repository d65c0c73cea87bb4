// `train`: multi-agent GRPO with held-out scores before and after. Owns the printed summary.
import type { Command } from "commander";
import { type RunFlags, runCommand, withRun, withTrainingFlags } from "./run-options.ts";
import { scoreTable } from "./score-table.ts";
import { StopRequest } from "./stop.ts";
import { trainingSummary } from "./training-summary.ts";

export function trainCommand(): Command {
  return withTrainingFlags(
    runCommand("train", "train a model by multi-agent GRPO, with held-out scores before and after"),
  ).action(async (flags: RunFlags) => {
    await withRun("train", flags, async (run) => {
      const { steps, finished, directory } = await run.train();
      const results = await run.evaluations();
      if (results.length > 0) console.log(scoreTable(results));
      if (!finished) throw new StopRequest(`after step ${steps}; continue with --resume ${directory}`);
      console.log(trainingSummary(steps, directory));
    });
  });
}
