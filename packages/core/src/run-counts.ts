// What the tools and models of a run counted, for people and for its report. Owns tools.json and models.json.
import path from "node:path";
import type { SearchBackend } from "@wideseek/spec";
import { type ProgressStream, writeAtomic } from "@wideseek/train";
import type { RunModels } from "./chat-models.ts";
import { toolMetrics } from "./open-pages.ts";

/** Of this process; a run that was resumed keeps those of the last one. @throws WS_IO */
export async function writeRunCounts(
  directory: string,
  backend: SearchBackend,
  models: RunModels,
  progress: ProgressStream,
): Promise<void> {
  const tools = toolMetrics(backend);
  if (Object.keys(tools).length > 0) {
    const happened = Object.entries(tools).filter(([, value]) => value !== 0);
    const counts = happened.map(([name, value]) => `${name.slice("tools/".length)} ${value}`);
    if (counts.length > 0) progress.write(`tools: ${counts.join(", ")}\n`);
    await writeAtomic(path.join(directory, "tools.json"), `${JSON.stringify(tools, null, 2)}\n`);
  }
  const lines = models.describe();
  if (lines === "") return;
  progress.write(`${lines}\n`);
  await writeAtomic(path.join(directory, "models.json"), `${JSON.stringify(models.metrics(), null, 2)}\n`);
}
