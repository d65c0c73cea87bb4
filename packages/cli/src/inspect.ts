// `inspect`: recorded episodes, readable in a terminal. Owns the layout, not the trace format.
import { createReadStream, existsSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { type EpisodeTrace, WideSeekError } from "@wideseek/core";
import { Command } from "commander";

interface InspectFlags {
  step?: string;
  task?: string;
  sample?: string;
  full?: boolean;
}

/** Characters of a given segment that are shown without --full. */
const GIVEN_CHARACTERS = 600;

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("print a recorded episode of a run")
    .argument("<run>", "run folder, or a file of traces")
    .option("--step <number>", "step of the episode; default: the last one recorded")
    .option("--task <id>", "instance id of the question")
    .option("--sample <number>", "index within the group")
    .option("--full", "show given text uncut")
    .action(async (run: string, flags: InspectFlags) => {
      const file = existsSync(run) && statSync(run).isDirectory() ? path.join(run, "episodes.jsonl") : run;
      if (!existsSync(file)) throw new WideSeekError("WS_IO", `${file}: no such file of traces`);
      const trace = await findTrace(file, flags);
      console.log(formatTrace(trace, flags.full ?? false));
    });
}

/** The first episode that fits, or of the last step when none is named. */
async function findTrace(file: string, flags: InspectFlags): Promise<EpisodeTrace> {
  let found: EpisodeTrace | undefined;
  let lineNumber = 0;
  for await (const line of createInterface({ input: createReadStream(file) })) {
    lineNumber += 1;
    const trace = parseLine(line, `${file}:${lineNumber}`);
    const fits =
      (flags.step === undefined || trace.step === Number(flags.step)) &&
      (flags.task === undefined || trace.task.instanceId === flags.task) &&
      (flags.sample === undefined || trace.sample === Number(flags.sample));
    if (!fits) continue;
    if (flags.step !== undefined) return trace;
    if (found === undefined || trace.step > found.step) found = trace;
  }
  if (found) return found;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${file}: no such episode among ${lineNumber}; see --step and --task`);
}

function parseLine(line: string, where: string): EpisodeTrace {
  try {
    const value: EpisodeTrace = JSON.parse(line);
    if (typeof value.step !== "number" || !Array.isArray(value.agents)) throw new Error("not an episode trace");
    return value;
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${where}: ${(error as Error).message}`, { cause: error });
  }
}

function formatTrace(trace: EpisodeTrace, full: boolean): string {
  const { reward } = trace;
  const head = [
    `step ${trace.step}  task ${trace.task.instanceId}  sample ${trace.sample}  workflow ${trace.workflow}`,
    `reward ${reward.total.toFixed(3)} = score ${reward.score.toFixed(3)} + format ${reward.formatReward} + tools ` +
      `${reward.toolReward} - length ${reward.lengthPenalty}  (${reward.reason})`,
    ...(trace.advantage === undefined ? [] : [`advantage ${trace.advantage.toFixed(3)}`]),
    `question: ${trace.task.question}`,
  ];
  const agents = trace.agents.map((agent) => {
    const title = `${agent.role} ${agent.agentId}: ${agent.numTurns} turns, stopped: ${agent.stopReason}`;
    const segments = agent.segments.map(({ kind, text = "", tokenIds }) => {
      const shown = text || `${tokenIds?.length ?? 0} token ids`;
      const cut = kind === "given" && !full && shown.length > GIVEN_CHARACTERS;
      const body = cut ? `${shown.slice(0, GIVEN_CHARACTERS)} ... (${shown.length} characters)` : shown;
      return body.replaceAll(/^/gm, kind === "sampled" ? "  > " : "    ");
    });
    const errors = agent.errors.map((error) => `  error: ${error}`);
    return [`== ${title}`, ...segments, ...errors].join("\n");
  });
  return [...head, "", ...agents].join("\n");
}
