// Logits, log-probabilities and entropies of every golden model, and how its checkpoint is stored.
import { expect, test } from "vitest";
import { NativePolicy } from "../../packages/engine/src/index.ts";
import {
  describeGolden,
  goldenPath,
  maxAbsDifference,
  packSequences,
  readJson,
  readTensors,
  valuesOf,
} from "./golden.ts";

interface ForwardCase {
  sequences: number[][];
  logit_positions: Record<string, number[]>;
}

const TOLERANCE = 1e-4;

async function load(name: string, weightDtype: "float32" | "bfloat16" = "float32"): Promise<NativePolicy> {
  return await NativePolicy.load({
    modelDir: goldenPath(`checkpoints/${name}`),
    device: "cpu",
    threads: 2,
    weightDtype,
    maxContextTokens: 256,
    maxBatchTokens: 48,
    maxDraftTokens: 0,
    maxTrainTokens: 512,
  });
}

describeGolden("forward", () => {
  // fp32, tied and untied, bf16 storage, two shards, transformers-5 config, mixture of experts.
  test.each(["qwen2-nano", "qwen3-hd128", "qwen3-micro", "qwen3-nano", "qwen3moe-nano"])("%s", async (name) => {
    const golden = readJson<ForwardCase>(`forward/${name}.json`);
    const tensors = await readTensors(`forward/${name}.safetensors`);
    await using policy = await load(name);
    const vocabSize = policy.vocabSize;
    const batch = packSequences(golden.sequences);
    for (const [key, temperature] of [
      ["t1", 1],
      ["t07", 0.7],
    ] as const) {
      const { logprobs, entropies } = await policy.logprobs(batch, temperature);
      for (const [index, sequence] of golden.sequences.entries()) {
        const start = batch.cuSeqlens[index] as number;
        const end = start + sequence.length;
        if (sequence.length === 1) continue;
        const expected = valuesOf(tensors, `logprobs_${key}.${index}`);
        expect(maxAbsDifference(logprobs.subarray(start + 1, end), expected)).toBeLessThan(TOLERANCE);
        const entropy = valuesOf(tensors, `entropy_${key}.${index}`).subarray(0, -1);
        expect(maxAbsDifference(entropies.subarray(start + 1, end), entropy)).toBeLessThan(TOLERANCE);
      }
    }
    for (const [index, sequence] of golden.sequences.entries()) {
      const logits = await policy.logits(Int32Array.from(sequence));
      const row = (position: number): Float32Array => logits.subarray(position * vocabSize, (position + 1) * vocabSize);
      const expected = valuesOf(tensors, `logits.${index}`);
      for (const [n, position] of (golden.logit_positions[String(index)] ?? []).entries()) {
        const wanted = expected.subarray(n * vocabSize, (n + 1) * vocabSize);
        expect(maxAbsDifference(row(position), wanted)).toBeLessThan(TOLERANCE);
      }
      const argmax = sequence.map((_, position) => row(position).indexOf(Math.max(...row(position))));
      expect(argmax).toEqual([...valuesOf(tensors, `argmax.${index}`)]);
    }
  });

  test.each(["qwen3-micro", "qwen3moe-nano"])(
    "%s: bf16 weights in memory give the bits of widened ones",
    async (name) => {
      const golden = readJson<ForwardCase>(`forward/${name}.json`);
      await using narrow = await load(name, "bfloat16");
      await using wide = await load(name);
      for (const sequence of golden.sequences) {
        const ids = Int32Array.from(sequence);
        expect(await narrow.logits(ids)).toEqual(await wide.logits(ids));
      }
    },
  );
});
