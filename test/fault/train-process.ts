// A training process for the kill tests: argv = model folder, run folder, steps. Owns no test.
import { loadConfig } from "../../packages/config/src/index.ts";
import { trainSynthetic } from "../e2e/synthetic-run.ts";
import { tinyConfig } from "../e2e/workspace.ts";

const [model = "", directory = "", steps = ""] = process.argv.slice(2);
const config = await loadConfig({ file: tinyConfig });
await trainSynthetic({ model, config }, directory, { steps: Number(steps), checkpointEvery: 3, learningRate: 0.01 });
