// Questions and corpus of a run, generated or read. Owns no formats.
import type { RunConfig } from "@wideseek/config";
import { generateQuestions, generateWorld, readTasks, type World } from "@wideseek/data";
import { checkTableTask } from "@wideseek/rewards";
import { type SearchBackend, type Task, WideSeekError } from "@wideseek/spec";
import { CorpusIndex, HttpSearchBackend } from "@wideseek/tools";
import { readBenchmarks } from "./benchmarks.ts";
import { openCorpus } from "./corpus-tools.ts";

export type DataConfig = RunConfig["data"];
export type EmbeddedDataConfig = Extract<DataConfig, { source: "embedded" }>;

export interface RunData extends AsyncDisposable {
  backend: SearchBackend;
  trainTasks: readonly Task[];
  /** Empty = nothing to evaluate on. */
  heldOutTasks: readonly Task[];
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
  const heldOutTasks = config.heldOutTasks === null ? [] : await readAll("heldOutTasks", config.heldOutTasks);
  const benchmarks = await readBenchmarks(config);
  heldOutTasks.push(...benchmarks.tasks);
  // A task that cannot be scored would end the evaluation hours later.
  for (const task of heldOutTasks) if (task.kind === "table") checkTableTask(task);
  return data(await openPages(config, tools), trainTasks, heldOutTasks, benchmarks.leftOut);
}

async function openPages(
  { corpus, searchServer }: Extract<DataConfig, { source: "files" }>,
  { timeoutSeconds }: RunConfig["tools"],
): Promise<SearchBackend> {
  if (corpus !== null) return await openCorpus(corpus);
  if (searchServer !== null) return await HttpSearchBackend.open({ baseUrl: searchServer, timeoutSeconds });
  throw new WideSeekError("WS_INVALID_ARGUMENT", "data: give either corpus or searchServer", { op: "openRunData" });
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
  leftOut: readonly string[] = [],
): RunData {
  return { backend, trainTasks, heldOutTasks, leftOut, [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose]() };
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
