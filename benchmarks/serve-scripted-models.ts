// `pnpm run scripted-models`: serves the scripted models for configs/suite-embedded.yaml until it is stopped.
import { scriptedModelsPort, startScriptedModels } from "./scripted-models.ts";

await using server = await startScriptedModels();
console.log(`scripted models at ${server.baseUrl} (port ${scriptedModelsPort}); stop with Ctrl-C`);
await new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, resolve);
});
