// Questions and corpus of a run, generated or read. Owns no formats.
import type { RunConfig } from "@wideseek/config";
import { generateQuestions, generateWorld, readTasks, taskPlace, type World } from "@wideseek/data";
import { checkTableTask } from "@wideseek/rewards";
import { type SearchBackend, type Task, WideSeekError } from "@wideseek/spec";
import { CorpusIndex, CountedBackend } from "@wideseek/tools";
import { readBenchmarks } from "./benchmarks.ts";
import { openPages } from "./open-pages.ts";

export type DataConfig = RunConfig["data"];
export type EmbeddedDataConfig = Extract<DataConfig, { source: "embedded" }>;

export interface RunData extends AsyncDisposable {
  backend: SearchBackend;
  trainTasks: readonly Task[];
  /** Empty = nothing to evaluate on. */
  heldOutTasks: readonly Task[];
  /** Files that the held-out questions are from; none where they are generated. */
  heldOutFiles: readonly string[];
  /** Benchmark questions that were left out because they cannot be scored. */
  leftOut: readonly string[];
}

/** @throws WS_IO, WS_INVALID_ARGUMENT with file and line */
export async function openRunData(config: DataConfig, tools: RunConfig["tools"]): Promise<RunData> {
  if (config.source === "embedded") {
    const { world, trainTasks, heldOutTasks } = embeddedData(config);
    return data(await CorpusIndex.fromPages(world.pages, "embedded world"), trainTasks, heldOutTasks);
  }
  const trainTasks = config.trainTasks === null ? [] : await readAll("trainTasks", config.trainTasks);
  checkTables(trainTasks, "meaning");
  const { tasks: heldOutTasks, leftOut } = await readHeldOut(config);
  return data(await openPages(config, tools), trainTasks, heldOutTasks, {
    leftOut,
    heldOutFiles: heldOutFiles(config),
  });
}

/** Held-out questions alone, without a corpus. @throws as `openRunData` */
export async function readHeldOut(config: DataConfig): Promise<{ tasks: readonly Task[]; leftOut: readonly string[] }> {
  if (config.source === "embedded") return { tasks: embeddedData(config).heldOutTasks, leftOut: [] };
  const tasks = config.heldOutTasks === null ? [] : await readAll("heldOutTasks", config.heldOutTasks);
  const benchmarks = await readBenchmarks(config);
  tasks.push(...benchmarks.tasks);
  // A task that cannot be scored would end the evaluation hours later.
  checkTables(tasks, "task");
  return { tasks, leftOut: benchmarks.leftOut };
}

function checkTables(tasks: readonly Task[], columnRules: "meaning" | "task"): void {
  for (const task of tasks) if (task.kind === "table") checkTableTask(task, taskPlace(task), columnRules);
}

/** The embedded encyclopaedia and its questions; the same config gives the same. */
export function embeddedData(config: EmbeddedDataConfig): { world: World; trainTasks: Task[]; heldOutTasks: Task[] } {
  const { numTrainRegions, numHeldOutRegions, minRegions, maxRegions } = config;
  const common = { seed: config.questionSeed, minRegions, maxRegions };
  const { numTrainTables, numTrainFacts, numHeldOutTables, numHeldOutFacts } = config;
  try {
    const world = generateWorld({ seed: config.worldSeed, numTrainRegions, numHeldOutRegions });
    const train = { ...common, split: "train", numTableTasks: numTrainTables, numQaTasks: numTrainFacts } as const;
    const held = { ...common, split: "heldOut", numTableTasks: numHeldOutTables, numQaTasks: numHeldOutFacts } as const;
    return { world, trainTasks: generateQuestions(world, train), heldOutTasks: generateQuestions(world, held) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new WideSeekError("WS_INVALID_ARGUMENT", `data: ${error.message}`, { op: "openRunData", cause: error });
  }
}

function data(
  backend: SearchBackend,
  trainTasks: readonly Task[],
  heldOutTasks: readonly Task[],
  { leftOut, heldOutFiles }: Pick<RunData, "leftOut" | "heldOutFiles"> = { leftOut: [], heldOutFiles: [] },
): RunData {
  return {
    backend: new CountedBackend(backend),
    trainTasks,
    heldOutTasks,
    heldOutFiles,
    leftOut,
    [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose](),
  };
}

function heldOutFiles({ heldOutTasks, widesearch, qa }: Extract<DataConfig, { source: "files" }>): string[] {
  const files = [heldOutTasks, widesearch?.questions, ...Object.values(qa?.sets ?? {})];
  return files.filter((file) => typeof file === "string");
}

async function readAll(key: "trainTasks" | "heldOutTasks", file: string): Promise<Task[]> {
  const tasks: Task[] = [];
  try {
    for await (const task of readTasks(file)) tasks.push(task);
  } catch (error) {
    // A broken line names itself; a file that cannot be read needs the setting it comes from.
    if (!(error instanceof WideSeekError) || error.code !== "WS_IO") throw error;
    throw new WideSeekError("WS_IO", `data.${key}: ${error.message.replace("readTasks: ", "")}`, {
      op: "readTasks",
      cause: error,
    });
  }
  if (tasks.length > 0) return tasks;
  throw new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `data.${key}: ${file}: no questions; a task file needs at least one line`,
    {
      op: "readTasks",
      details: { file },
    },
  );
}
