// Runs the rows of a suite one after the other, each over the same questions, tools and judge, and puts their figures beside
// the published ones. Owns the order, what a missing or failing row means, and the files of the table.
import path from "node:path";
import { formatConfig, type RunConfig, type Suite, type SuiteModel, type SuiteRow } from "@wideseek/config";
import { type EvaluationReport, writeHtmlReport } from "@wideseek/eval";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { searchTools } from "@wideseek/tools";
import { CONFIG_FILE, type ProgressStream, RunLock, writeAtomic } from "@wideseek/train";
import { RunModels } from "./chat-models.ts";
import { runEvaluation } from "./evaluation-run.ts";
import { writeRunCounts } from "./run-counts.ts";
import { openRunData, type RunData } from "./run-data.ts";
import { checkEvaluationSettings, checkRunCommand, checkRunFolder, writeRunCommand } from "./run-folder.ts";
import { suiteFigure } from "./suite-figure.ts";
import { missingParts, RowModels, rowFingerprint } from "./suite-models.ts";
import { rowCost, rowFigures, type SuiteReport, type SuiteRowReport, suiteMarkdown } from "./suite-report.ts";
import { checkRow, systemOf } from "./suite-systems.ts";

export interface SuiteOptions {
  name: string;
  suite: Suite;
  config: RunConfig;
  /** Folder of the results: suite.md, suite.json and what every evaluation writes, by row. */
  directory: string;
  /** True: finished episodes of an earlier run in the folder are taken over. */
  resume?: boolean;
  /** Ids of the rows that run; left out, all. */
  rows?: readonly string[] | undefined;
  progress: ProgressStream;
  signal?: AbortSignal | undefined;
}

/**
 * A row whose models are not there, or that cannot work, is a line in the report and stops no other row.
 * @throws WS_INVALID_ARGUMENT for an unknown row, role or option, WS_INVALID_STATE when another process writes there, what
 *   the data is wrong with, and `signal.reason` on abort; a run that was stopped can be resumed
 */
export async function runSuite(options: SuiteOptions): Promise<SuiteReport> {
  const { name, suite, config, directory, progress, resume = false, signal = new AbortController().signal } = options;
  const rows = chosenRows(options);
  const models = suiteModels(options);
  await checkRunFolder(directory, resume);
  await using _lock = await RunLock.take(directory);
  await checkRunFolder(directory, resume);
  await checkRunCommand(directory, "suite");
  await checkEvaluationSettings(directory, config);
  await using data = await openRunData(config.data, config.tools);
  const tasks = config.eval.maxTasks === 0 ? data.heldOutTasks : data.heldOutTasks.slice(0, config.eval.maxTasks);
  if (tasks.length === 0) {
    const where = "data.heldOutTasks, data.widesearch or data.qa";
    throw new WideSeekError("WS_INVALID_ARGUMENT", `suite: no held-out questions; set ${where}`, { op: "runSuite" });
  }
  await using judging = await RunModels.open(config);
  await judging.check(signal);
  await writeRunCommand(directory, "suite");
  await writeAtomic(path.join(directory, CONFIG_FILE), formatConfig(config));

  const report: SuiteReport = {
    suite: name,
    title: suite.title,
    data: config.data.source,
    samples: config.eval.samples,
    numTasks: tasks.length,
    columns: Object.entries(suite.columns).map(([id, { label }]) => ({ id, label })),
    replaced: Object.fromEntries(
      [...new Set(rows.flatMap(([, row]) => Object.values(row.models)))].flatMap((id) => {
        const model = config.suite.models[id];
        return model === undefined ? [] : [[id, placeOf(model)]];
      }),
    ),
    judgeFailed: false,
    rows: [],
  };
  for (const [id, row] of rows) {
    signal.throwIfAborted();
    report.rows.push(await runRow(id, row, { options, models, data, tasks, judging, signal }));
    report.judgeFailed = judging.judgeFailed;
    // After each row: a run that is killed has the table of what it has done.
    await writeAtomic(path.join(directory, "suite.json"), `${JSON.stringify(report, null, 1)}\n`);
    await writeAtomic(path.join(directory, "suite.md"), suiteMarkdown(report));
    await writeAtomic(path.join(directory, "suite.svg"), `${suiteFigure(report)}\n`);
  }
  await writeRunCounts(directory, data.backend, judging, progress);
  await writeHtmlReport(directory);
  return report;
}

interface RowParts {
  options: SuiteOptions;
  models: ReadonlyMap<string, SuiteModel>;
  data: RunData;
  tasks: RunData["heldOutTasks"];
  judging: RunModels;
  signal: AbortSignal;
}

async function runRow(id: string, row: SuiteRow, parts: RowParts): Promise<SuiteRowReport> {
  const { suite, progress } = parts.options;
  const { system, team, workflow, note } = row;
  const describe = (more: Pick<SuiteRowReport, "status" | "reasons">, report?: EvaluationReport): SuiteRowReport => ({
    ...{ id, system, team, workflow, models: row.models, note, ...more },
    figures: rowFigures(suite, row.published, report),
    cost: report === undefined ? null : rowCost(report),
    numEpisodes: report?.numEpisodes ?? 0,
    numErrors: report?.statistics.leadStopReasons.error ?? 0,
    numUnjudged: report?.numUnjudged ?? 0,
  });
  const names = [...new Set(Object.values(row.models))].sort();
  const missing = names.flatMap((name) => missingParts(name, parts.models.get(name) as SuiteModel));
  if (missing.length > 0) {
    progress.write(`${id}: not run, missing: ${missing.join("; ")}\n`);
    return describe({ status: "missing", reasons: missing });
  }
  try {
    const { report, lastError } = await evaluateRow(id, row, names, parts);
    const never = report.tasks.every(({ episodes }) =>
      episodes.every(({ stopReason, numTurns }) => stopReason === "error" || numTurns === 0),
    );
    if (!never) return describe({ status: "done", reasons: [] }, report);
    const why = lastError === "" ? "" : `; the last one says: ${lastError}`;
    return describe({ status: "failed", reasons: [`all ${report.numEpisodes} episodes failed${why}`] });
  } catch (error) {
    parts.signal.throwIfAborted();
    // Another row's weights may be whole and its server up.
    progress.write(`${id}: failed: ${errorMessage(error)}\n`);
    return describe({ status: "failed", reasons: [errorMessage(error)] });
  }
}

async function evaluateRow(id: string, row: SuiteRow, names: readonly string[], parts: RowParts) {
  const { config, directory, progress, name } = parts.options;
  const { models, data, tasks, judging, signal } = parts;
  const used = new Map(names.map((each) => [each, models.get(each) as SuiteModel]));
  const fingerprint = await rowFingerprint(row, used);
  await using opened = await RowModels.open(used, config.engine);
  const { backend, leftOut, heldOutFiles: dataPaths } = data;
  const tools = searchTools({ backend, options: config.tools, summarizer: judging.summarizer });
  return await runEvaluation({
    directory,
    name: id,
    label: `${name} ${id} ${fingerprint}`,
    model: id,
    tasks,
    leftOut,
    dataPaths,
    settings: config.eval,
    rewards: config.rewards,
    judge: judging.judge,
    runEpisode: systemOf({ row, models: opened, config, tools, backend, signal }),
    decode: (tokenIds) => opened.decode(tokenIds),
    keep: "report",
    progress,
    signal,
  });
}

function placeOf(model: SuiteModel): string {
  return model.kind === "local" ? model.directory : `${model.model} at ${model.baseUrl ?? "no address"}`;
}

/** Checks all of them before any runs. */
function chosenRows({ name, suite, rows: chosen }: SuiteOptions): [string, SuiteRow][] {
  const unknown = chosen?.find((id) => !Object.hasOwn(suite.rows, id));
  if (unknown !== undefined) {
    throw new WideSeekError(
      "WS_INVALID_ARGUMENT",
      `suite ${name}: no row ${unknown}; its rows are ${Object.keys(suite.rows).join(", ")}`,
      { op: "runSuite", details: { row: unknown } },
    );
  }
  const rows = Object.entries(suite.rows).filter(([id]) => chosen?.includes(id) ?? true);
  for (const [id, row] of rows) checkRow(id, row);
  return rows;
}

/** As the suite says, or as the config says instead; a config may serve several suites. */
function suiteModels({ suite, config, progress }: SuiteOptions): ReadonlyMap<string, SuiteModel> {
  const instead = config.suite.models;
  const unused = Object.keys(instead).filter((name) => !Object.hasOwn(suite.models, name));
  if (unused.length > 0) {
    progress.write(
      `suite.models: not in this suite: ${unused.join(", ")}; it has ${Object.keys(suite.models).join(", ")}\n`,
    );
  }
  const used = Object.entries(instead).filter(([name]) => !unused.includes(name));
  return new Map([...Object.entries(suite.models), ...used]);
}
