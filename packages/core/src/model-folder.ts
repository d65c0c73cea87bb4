// A Hugging Face folder made of new weights and an old tokenizer. Owns no formats.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, open, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { atBoundary, type Trainer } from "@wideseek/spec";

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

/** Bytes that are read at each of the places below. */
const SAMPLE_BYTES = 65_536;

/**
 * Tells other weights or another tokenizer apart without reading gigabytes: names, sizes and samples of all files.
 * A step of training changes every weight, so the samples differ. Hexadecimal. @throws WS_IO
 */
export async function modelFingerprint(directory: string): Promise<string> {
  return await atBoundary("WS_IO", `model.directory ${directory}`, async () => {
    const hash = createHash("sha256");
    const entries = await readdir(directory, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
    for (const name of names.filter((each) => /\.(json|jinja|safetensors|txt|model)$/.test(each)).sort()) {
      await using file = await open(path.join(directory, name));
      const { size } = await file.stat();
      hash.update(`${name} ${size}\n`);
      for (const start of [0, Math.floor(size / 2), Math.max(0, size - SAMPLE_BYTES)]) {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, start);
        hash.update(buffer.subarray(0, bytesRead));
      }
    }
    return hash.digest("hex").slice(0, 16);
  });
}
