// `inspect`: recorded episodes, readable in a terminal. Owns the layout, not the trace format.
import { createReadStream, existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { type EpisodeTrace, WideSeekError } from "@wideseek/core";
import { Command } from "commander";

interface InspectFlags {
  step?: string;
  task?: string;
  sample?: string;
  evaluation?: string;
  full?: boolean;
}

/** Of the traces of an evaluation. */
const ENDING = ".episodes.jsonl";
/** Characters of a given segment that are shown without --full. */
const GIVEN_CHARACTERS = 600;

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("print a recorded episode of a run")
    .argument("<run>", "run folder, or a file of traces")
    .option("--step <number>", "step of the episode; default: the last one recorded")
    .option("--task <id>", "instance id of the question")
    .option("--sample <number>", "index within the group")
    .option("--evaluation <name>", "an evaluation of the run, e.g. mas; default: what was trained on, or the only one")
    .option("--full", "show given text uncut")
    .action(async (run: string, flags: InspectFlags) => {
      const trace = await findTrace(tracesOf(run, flags.evaluation), flags);
      console.log(formatTrace(trace, flags.full ?? false));
    });
}

/** The file that is named, or that of a run: its training, else its only evaluation. */
function tracesOf(run: string, evaluation: string | undefined): string {
  if (!existsSync(run)) throw new WideSeekError("WS_IO", `${run}: no such run folder and no such file of traces`);
  if (!statSync(run).isDirectory()) {
    if (/\.jsonl$/.test(run)) return run;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `${run}: no file of traces (.jsonl); name the run folder`);
  }
  const training = path.join(run, "episodes.jsonl");
  if (evaluation === undefined && existsSync(training)) return training;
  const folder = path.join(run, "eval");
  const files = existsSync(folder) ? readdirSync(folder).sort() : [];
  const names = files.filter((file) => file.endsWith(ENDING)).map((file) => file.slice(0, -ENDING.length));
  const chosen = evaluation ?? (names.length === 1 ? names[0] : undefined);
  if (chosen !== undefined && names.includes(chosen)) return path.join(folder, `${chosen}${ENDING}`);
  if (names.length === 0) throw new WideSeekError("WS_INVALID_ARGUMENT", `${run}: no recorded episodes there`);
  const problem = evaluation === undefined ? "several evaluations" : `no evaluation ${evaluation}`;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${run}: ${problem}; name one by --evaluation: ${names.join(", ")}`);
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
