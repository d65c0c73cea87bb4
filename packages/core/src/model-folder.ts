// A Hugging Face folder made of new weights and an old tokenizer. Owns no formats.
import { existsSync } from "node:fs";
import { copyFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import type { Trainer } from "@wideseek/spec";

/** Files of a model folder that do not change in training. */
const TEXT_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];

/** Writes the weights to `to` with the tokenizer of `from`, replacing what is there; whole or not at all. */
export async function saveModel(policy: Pick<Trainer, "saveWeights">, from: string, to: string): Promise<void> {
  const temporary = `${to}.tmp`;
  await rm(temporary, { recursive: true, force: true });
  await policy.saveWeights(temporary);
  for (const name of TEXT_FILES.filter((file) => existsSync(path.join(from, file)))) {
    await copyFile(path.join(from, name), path.join(temporary, name));
  }
  await rm(to, { recursive: true, force: true });
  await rename(temporary, to);
}
