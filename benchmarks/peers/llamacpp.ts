// llama.cpp as a peer: the same weights as GGUF, run by node-llama-cpp from a folder that has it installed.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BenchModel } from "../bench-model.ts";
import { writeGguf } from "./gguf.ts";
import { PeerProcess } from "./process.ts";

export interface LlamaCppPeer extends AsyncDisposable {
  readonly name: string;
  /** Greedy. Decode speed counts the tokens after every sequence has its first. */
  generate(
    prompts: readonly Int32Array[],
    numNew: number,
  ): Promise<{ decodeTokensPerSecond: number; tokenIds: number[][] }>;
  prefill(prompt: Int32Array): Promise<{ seconds: number }>;
}

/** @throws Error when `directory` has no node-llama-cpp */
export async function openLlamaCppPeer(directory: string, model: BenchModel, threads: number): Promise<LlamaCppPeer> {
  if (!existsSync(join(directory, "node_modules/node-llama-cpp"))) {
    throw new Error(`--peer-llamacpp ${directory}: no node_modules/node-llama-cpp; run npm i node-llama-cpp there`);
  }
  const path = join(model.directory, "model.gguf");
  writeGguf(model.directory, path, "float32");
  const script = fileURLToPath(new URL("llamacpp-child.mjs", import.meta.url));
  const child = new PeerProcess("llama.cpp", process.execPath, [script, directory], {});
  const { version } = await child.request<{ version: string }>({ op: "load", path, numThreads: threads });
  const lists = (prompts: readonly Int32Array[]): number[][] => prompts.map((prompt) => [...prompt]);
  return {
    name: `node-llama-cpp ${version} fp32`,
    generate: (prompts, numNew) => child.request({ op: "generate", prompts: lists(prompts), numNew }),
    prefill: (prompt) => child.request({ op: "prefill", prompts: lists([prompt]) }),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
