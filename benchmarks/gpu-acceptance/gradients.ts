// Our side of the comparison at true shapes (agreement.py): loads the weights in bfloat16, and writes as raw float32 the
// log-probabilities and the gradient of every parameter for the batch that lies beside them.
// Usage: node gradients.ts --folder DIR [--device cpu|cuda]

import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { NativePolicy } from "../../packages/engine/src/index.ts";
import { packSequences } from "../../test/golden/data.ts";

const { values } = parseArgs({
  options: { folder: { type: "string" }, device: { type: "string", default: "cuda" } },
});
if (values.folder === undefined) throw new Error("--folder is missing");
const folder = values.folder;

/** A single write takes less than 2 GiB; the largest embedding has more. */
async function write(name: string, tensor: Float32Array): Promise<void> {
  await using file = await open(join(folder, `${name}.f32`), "w");
  const bytes = new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, Math.min(bytes.length - at, 2 ** 30), at);
    at += bytesWritten;
  }
}

const { sequences } = JSON.parse(readFileSync(join(folder, "batch.json"), "utf8")) as { sequences: number[][] };
const targets = sequences.reduce((sum, { length }) => sum + length - 1, 0);
const batch = packSequences(sequences, 1 / targets);
const longest = Math.max(...sequences.map(({ length }) => length));
await using policy = await NativePolicy.load({
  modelDir: folder,
  device: values.device === "cpu" ? "cpu" : "cuda",
  weightDtype: "bfloat16",
  maxTrainTokens: batch.tokenIds.length,
  maxContextTokens: longest,
  kvCacheTokens: longest,
});
const { logprobs } = await policy.logprobs(batch, 1);
await write(
  "logprobs",
  Float32Array.from(
    sequences.flatMap(({ length }, s) => {
      const start = batch.cuSeqlens[s] as number;
      return [...logprobs.subarray(start + 1, start + length)];
    }),
  ),
);
await policy.forwardBackward(batch, { kind: "nll" });
// The next tensor is read while the one before is written.
let written = Promise.resolve();
for (const { name } of policy.parameters) {
  const gradient = await policy.readTensor("gradient", name);
  await written;
  written = write(name, gradient);
}
await written;
