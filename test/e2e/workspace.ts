// For tests: a folder with a tiny random model, a corpus and questions, made by the real parts. Owns its clean-up.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadConfig, type RunConfig } from "../../packages/config/src/index.ts";
import { embeddedWorld } from "../../packages/core/src/embedded-world.ts";
import { createModel } from "../../packages/core/src/new-model.ts";
import { openRunData } from "../../packages/core/src/run-data.ts";
import { searchTools } from "../../packages/tools/src/index.ts";

export const root: string = path.resolve(import.meta.dirname, "../..");
export const tinyConfig: string = path.join(root, "configs/tiny-cpu.yaml");

export interface Workspace extends AsyncDisposable {
  directory: string;
  /** Random weights, about 30 thousand parameters. */
  model: string;
  config: RunConfig;
}

/** model/, corpus/pages.jsonl, train.jsonl and held-out.jsonl in a new temporary folder. */
export async function makeWorkspace(): Promise<Workspace> {
  const directory = await mkdtemp(path.join(tmpdir(), "wideseek-e2e-"));
  const config = await loadConfig({ file: tinyConfig });
  if (config.model.create === null || config.data.source !== "embedded") throw new Error("configs/tiny-cpu.yaml");
  const model = path.join(directory, "model");
  await using data = await openRunData(config.data, config.tools);
  const tools = searchTools({ backend: data.backend, options: config.tools });
  await createModel(model, { config, shape: config.model.create, tools, tasks: data.trainTasks });
  const { pages, train, heldOut } = embeddedWorld(config.data);
  await mkdir(path.join(directory, "corpus"));
  await writeFile(path.join(directory, "corpus/pages.jsonl"), pages);
  await writeFile(path.join(directory, "train.jsonl"), train);
  await writeFile(path.join(directory, "held-out.jsonl"), heldOut);
  return { directory, model, config, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
}
