// Sampling filters against Hugging Face's logits processors, and greedy continuations.
import { expect, test } from "vitest";
import { loadAddon, NativePolicy } from "../../packages/engine/src/index.ts";
import { describeGolden, goldenPath, maxAbsDifference, readJson, readTensors, valuesOf } from "./golden.ts";

interface FilterCase {
  case: number;
  rows: number[];
  kept: number[];
  temperature: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repetition_penalty?: number;
}
interface GreedyCase {
  model: string;
  prompts: number[][];
  greedy: number[][];
}

describeGolden("sampling filters", () => {
  test("every case", async () => {
    const golden = readJson<{ vocab: number; history_for_repetition_penalty: number[][]; cases: FilterCase[] }>(
      "sampling/filters.json",
    );
    const tensors = await readTensors("sampling/filters.safetensors");
    const logits = valuesOf(tensors, "logits");
    const { filterProbabilities } = loadAddon();
    expect(golden.cases.length).toBeGreaterThan(10);
    for (const filter of golden.cases) {
      const expected = valuesOf(tensors, `probs.${filter.case}`);
      for (const [n, row] of filter.rows.entries()) {
        const probabilities = filterProbabilities(
          Float32Array.from(logits.subarray(row * golden.vocab, (row + 1) * golden.vocab)),
          {
            temperature: filter.temperature,
            topK: filter.top_k ?? 0,
            topP: filter.top_p ?? 1,
            minP: filter.min_p ?? 0,
            repetitionPenalty: filter.repetition_penalty ?? 1,
          },
          Int32Array.from(golden.history_for_repetition_penalty[row] ?? []),
        );
        const what = `case ${filter.case} row ${row}`;
        expect(probabilities.filter((p) => p > 0).length, what).toBe(filter.kept[n]);
        const wanted = expected.subarray(n * golden.vocab, (n + 1) * golden.vocab);
        expect(maxAbsDifference(probabilities, wanted), what).toBeLessThan(2e-6);
      }
    }
  });
});

describeGolden("greedy decoding", () => {
  test("every prompt, all at once", async () => {
    const { max_new_tokens: maxNewTokens, cases } = readJson<{ max_new_tokens: number; cases: GreedyCase[] }>(
      "decode/greedy.json",
    );
    let numTested = 0;
    for (const { model, prompts, greedy } of cases) {
      await using policy = await NativePolicy.load({
        modelDir: goldenPath(`checkpoints/${model}`),
        device: "cpu",
        threads: 2,
        maxContextTokens: 256,
      });
      const completions = await Promise.all(
        prompts.map((prompt) =>
          policy.generate({
            promptIds: Int32Array.from(prompt),
            maxNewTokens,
            seed: 0n,
            sampling: { temperature: 0, topP: 1, topK: 0, minP: 0 },
            stopTokenIds: [],
          }),
        ),
      );
      expect(completions.map((completion) => [...completion.tokenIds])).toEqual(greedy);
      numTested += prompts.length;
    }
    expect(numTested).toBeGreaterThanOrEqual(8);
  });
});
