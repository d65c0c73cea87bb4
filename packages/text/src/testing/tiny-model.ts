// For tests: a small tokenizer in the Qwen3 format, trained on the spot, in a folder of its own.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveTokenizer, trainBpe } from "../bpe-trainer.ts";
import { readQwen3Template } from "../chat-template.ts";
import type { TokenizerJson } from "../qwen3-format.ts";

/** Has merges over newlines and punctuation, where splitting a text at the wrong place changes the ids. */
const TEXTS = [
  'The search tool returned a page.\n\nThe page lists towns.\n\n{"name": "search", "arguments": {"query": "towns"}}\n',
  "user\nassistant\nsystem\n\nAnswer in a table.\n\n\n| Town | Area |\n| --- | --- |\n\n",
  "think about the question.\n\nWho wrote it? Naïve façade, 北京市 和 上海市.\n",
];

export interface TinyModel extends AsyncDisposable {
  modelDir: string;
  json: TokenizerJson;
}

export async function writeTinyModel(): Promise<TinyModel> {
  const modelDir = await mkdtemp(join(tmpdir(), "wideseek-text-"));
  const json = trainBpe([...TEXTS, ...TEXTS, ...TEXTS], { vocabSize: 450 });
  await saveTokenizer(modelDir, json, await readQwen3Template());
  return { modelDir, json, [Symbol.asyncDispose]: () => rm(modelDir, { recursive: true, force: true }) };
}
