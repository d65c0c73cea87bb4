// `train`: multi-agent GRPO with held-out scores before and after. Owns the printed summary.
import type { Command } from "commander";
import { type RunFlags, runCommand, withRun, withTrainingFlags } from "./run-options.ts";
import { scoreTable } from "./score-table.ts";

export function trainCommand(): Command {
  return withTrainingFlags(
    runCommand("train", "train a model by multi-agent GRPO, with held-out scores before and after"),
  ).action(async (flags: RunFlags) => {
    await withRun("train", flags, async (run) => {
      const { steps, finished, directory } = await run.train();
      const results = await run.evaluations();
      if (results.length > 0) console.log(scoreTable(results));
      console.log(finished ? `trained ${steps} steps; model: ${directory}/model` : `stopped after step ${steps}`);
      console.log(finished ? `report: ${directory}/report.html` : `continue: --resume ${directory}`);
      if (!finished) process.exitCode = 130;
    });
  });
}
