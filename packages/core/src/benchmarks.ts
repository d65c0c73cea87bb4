// Which benchmark questions a config asks for. Owns what becomes of those that cannot be scored; no formats.
import type { RunConfig } from "@wideseek/config";
import { readQaSet, readWideSearch } from "@wideseek/data";
import { qaSetNames, type Task, WideSeekError } from "@wideseek/spec";

type FileDataConfig = Extract<RunConfig["data"], { source: "files" }>;

/** Ids that an error line names. */
const SHOWN_IDS = 8;

/** WideSearch, then the sets in the order of the published tables. @throws WS_IO, WS_INVALID_ARGUMENT */
export async function readBenchmarks({
  widesearch,
  qa,
}: Pick<FileDataConfig, "widesearch" | "qa">): Promise<{ tasks: Task[]; leftOut: string[] }> {
  const tasks: Task[] = [];
  const leftOut: string[] = [];
  if (widesearch !== null) {
    const found = await named("data.widesearch", () => readWideSearch(widesearch));
    if (found.withoutGold.length > 0 && widesearch.withoutGold === "refuse") throw missingGold(widesearch, found);
    tasks.push(...found.tasks);
    leftOut.push(...found.withoutGold);
  }
  for (const dataset of qaSetNames) {
    const file = qa?.sets[dataset];
    if (file === undefined) continue;
    const limit = qa?.tasksPerSet === 0 ? undefined : qa?.tasksPerSet;
    tasks.push(...(await named(`data.qa.sets.${dataset}`, () => readQaSet({ dataset, file, limit }))));
  }
  return { tasks, leftOut };
}

function missingGold(
  { gold }: NonNullable<FileDataConfig["widesearch"]>,
  { tasks, withoutGold }: { tasks: readonly Task[]; withoutGold: readonly string[] },
): WideSeekError {
  const shown = withoutGold.slice(0, SHOWN_IDS).join(", ") + (withoutGold.length > SHOWN_IDS ? ", ..." : "");
  const total = tasks.length + withoutGold.length;
  return new WideSeekError(
    "WS_INVALID_ARGUMENT",
    `data.widesearch.gold: ${gold} has no table for ${withoutGold.length} of ${total} questions: ${shown}; ` +
      "add them, or set data.widesearch.withoutGold=leave-out to evaluate without these questions",
    { op: "readBenchmarks", details: { gold, withoutGold } },
  );
}

/** A broken line names itself; a file that cannot be read needs the setting it comes from. */
async function named<T>(key: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof WideSeekError) || error.code !== "WS_IO") throw error;
    throw new WideSeekError("WS_IO", `${key}: ${error.message}`, { op: "readBenchmarks", cause: error });
  }
}
