// One call of the command line: arguments in, exit code out. Owns how errors are reported; no behaviour of a command.
import { WideSeekError } from "@wideseek/core";
import { errorMessage } from "@wideseek/core/tooling";
import { Command, CommanderError } from "commander";
import { coldStartCommand } from "./cold-start.ts";
import { compareCommand } from "./compare.ts";
import { evalCommand } from "./eval.ts";
import { FailedRun } from "./failed-run.ts";
import { indexCommand } from "./index-corpus.ts";
import { inspectCommand } from "./inspect.ts";
import { judgeAgreementCommand } from "./judge-agreement.ts";
import { plotCommand } from "./plot.ts";
import { StopRequest } from "./stop.ts";
import { toolsCommand } from "./tools.ts";
import { trainCommand } from "./train.ts";
import { worldCommand } from "./world.ts";

/** Exit codes: 0 done, 1 something failed, 2 the caller's mistake, 130 stopped by a signal. */
const CALLER_MISTAKE = 2;
const STOPPED = 130;

/** Prints results to stdout and errors to stderr, one line each. */
export async function runCli(argv: readonly string[]): Promise<number> {
  const program = new Command("wideseek")
    .description("Trains and runs teams of language-model agents for broad information seeking.")
    .option("--debug", "print stacks of errors")
    .configureHelp({ sortSubcommands: true })
    .exitOverride();
  for (const make of [
    trainCommand,
    coldStartCommand,
    evalCommand,
    compareCommand,
    plotCommand,
    inspectCommand,
    judgeAgreementCommand,
    worldCommand,
    indexCommand,
    toolsCommand,
  ]) {
    const command = make();
    // Errors are reported once, here and in one form.
    command.exitOverride().configureOutput({ outputError: () => undefined });
    command.option("--debug", "print stacks of errors");
    program.addCommand(command);
  }
  program.configureOutput({ outputError: () => undefined });
  try {
    // pnpm 10 hands a literal "--" on to the script.
    await program.parseAsync(
      argv.filter((argument) => argument !== "--"),
      { from: "user" },
    );
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return report(error, argv.includes("--debug"));
  }
}

function report(error: unknown, debug: boolean): number {
  if (error instanceof StopRequest) {
    process.stderr.write(`stopped: ${error.message}\n`);
    return STOPPED;
  }
  if (error instanceof FailedRun) {
    process.stderr.write(`failed: ${error.message}\n`);
    return 1;
  }
  const isUsage = error instanceof CommanderError;
  const code = isUsage ? "WS_INVALID_ARGUMENT" : error instanceof WideSeekError ? error.code : "WS_INTERNAL";
  // Without a command, commander has printed the help already and says only that.
  const text = isUsage && error.code === "commander.help" ? "name a command: see above" : errorMessage(error);
  const message = text.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ");
  process.stderr.write(`error ${code}: ${message}\n`);
  if (debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  const mistakes: readonly string[] = ["WS_INVALID_ARGUMENT", "WS_INVALID_STATE", "WS_IO", "WS_CORRUPT_FILE"];
  return mistakes.includes(code) ? CALLER_MISTAKE : 1;
}
