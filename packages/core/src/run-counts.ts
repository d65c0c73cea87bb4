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
    progress.write(emptyLookups(tools));
    await writeAtomic(path.join(directory, "tools.json"), `${JSON.stringify(tools, null, 2)}\n`);
  }
  const lines = models.describe();
  if (lines === "") return;
  progress.write(`${lines}\n`);
  await writeAtomic(path.join(directory, "models.json"), `${JSON.stringify(models.metrics(), null, 2)}\n`);
}

/** Most lookups of a working team find something; where they do not, the corpus is another one than the questions'. */
const MANY = 0.5;

/** A warning, or "". */
function emptyLookups(tools: Readonly<Record<string, number>>): string {
  const { "tools/lookups": all = 0, "tools/lookups_without_result": empty = 0 } = tools;
  if (all === 0 || empty / all < MANY) return "";
  const share = Math.round((100 * empty) / all);
  return `warning: ${empty} of ${all} lookups (${share} %) found nothing; does the corpus hold the pages of these questions?\n`;
}
