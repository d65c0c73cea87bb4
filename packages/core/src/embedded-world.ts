// The embedded world as the text of its files. Owns no generator.
import { formatTask } from "@wideseek/data";
import type { Task } from "@wideseek/spec";
import { type EmbeddedDataConfig, embeddedData } from "./run-data.ts";

export interface EmbeddedWorldFiles {
  /** JSONL of {url, title, contents}. */
  pages: string;
  /** JSONL in the published training format. */
  train: string;
  heldOut: string;
}

/** @throws WS_INVALID_ARGUMENT when the world is too small for its questions */
export function embeddedWorld(config: EmbeddedDataConfig): EmbeddedWorldFiles {
  const { world, trainTasks, heldOutTasks } = embeddedData(config);
  const lines = (tasks: readonly Task[]): string => tasks.map((task) => `${formatTask(task)}\n`).join("");
  const pages = world.pages.map((page) => `${JSON.stringify(page)}\n`).join("");
  return { pages, train: lines(trainTasks), heldOut: lines(heldOutTasks) };
}
