// `world`: the embedded encyclopaedia and its questions as files in the published formats. Owns no generator.
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { loadConfig, WideSeekError } from "@wideseek/core";
import { embeddedWorld, makeFolder } from "@wideseek/core/tooling";
import { Command } from "commander";

export function worldCommand(): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  return new Command("world")
    .description("write the embedded encyclopaedia and its questions as files")
    .argument("<dir>", "new folder for corpus/pages.jsonl, train.jsonl and held-out.jsonl")
    .option("--config <file>", "YAML config", "configs/embedded.yaml")
    .option("--set <key=value>", "override one setting; may be repeated", collect, [])
    .action(async (directory: string, flags: { config: string; set: string[] }) => {
      const { data } = await loadConfig({ file: flags.config, overrides: flags.set });
      if (data.source !== "embedded") {
        throw new WideSeekError("WS_INVALID_ARGUMENT", `${flags.config}: data.source is ${data.source}, not embedded`);
      }
      const { pages, train, heldOut } = embeddedWorld(data);
      makeNew(directory);
      await mkdir(path.join(directory, "corpus"));
      await writeFile(path.join(directory, "corpus", "pages.jsonl"), pages);
      await writeFile(path.join(directory, "train.jsonl"), train);
      await writeFile(path.join(directory, "held-out.jsonl"), heldOut);
      console.log(`wrote ${directory}/corpus/pages.jsonl, train.jsonl and held-out.jsonl`);
    });
}

function makeNew(directory: string): void {
  if (makeFolder(directory).length > 0) return;
  throw new WideSeekError("WS_INVALID_ARGUMENT", `${directory}: is there already; name a new folder`);
}
