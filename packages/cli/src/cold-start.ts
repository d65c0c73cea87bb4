// `cold-start`: supervised training on traces of the scripted expert. Owns the printed summary.
import type { Command } from "commander";
import { type RunFlags, runCommand, withRun, withTrainingFlags } from "./run-options.ts";
import { StopRequest } from "./stop.ts";
import { trainingSummary } from "./training-summary.ts";

export function coldStartCommand(): Command {
  return withTrainingFlags(
    runCommand("cold-start", "make a starting model: maximum likelihood of a scripted expert's traces"),
  ).action(async (flags: RunFlags) => {
    await withRun("cold-start", flags, async (run) => {
      const { steps, finished, directory } = await run.coldStart();
      if (!finished) throw new StopRequest(`after step ${steps}; continue with --resume ${directory}`);
      console.log(trainingSummary(steps, directory));
    });
  });
}
