// Rotary tables, plain and YaRN, and a model that uses YaRN.
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadAddon, NativePolicy, parseModelConfig } from "../../packages/engine/src/index.ts";
import { describeGolden, goldenPath, maxAbsDifference, readJson, readTensors, valuesOf } from "./golden.ts";

interface RopeCase {
  cases: {
    case: number;
    head_dim: number;
    rope_theta: number;
    rope_scaling: object | null;
    attention_factor: number;
  }[];
  yarn_model: { tokens: number[] };
}

describeGolden("rope", () => {
  test("tables", async () => {
    const { cases } = readJson<RopeCase>("rope/rope.json");
    const tensors = await readTensors("rope/rope.safetensors");
    const positions = [...valuesOf(tensors, "positions")];
    const base = readJson<Record<string, unknown>>("checkpoints/qwen3-nano/config.json");
    for (const golden of cases) {
      const config = parseModelConfig({
        ...base,
        head_dim: golden.head_dim,
        rope_theta: golden.rope_theta,
        rope_scaling: golden.rope_scaling,
      }).native;
      if (golden.rope_scaling) expect(config.yarn?.attentionFactor).toBeCloseTo(golden.attention_factor, 12);
      const tables = loadAddon().ropeTable(config, Math.max(...positions) + 1);
      const half = golden.head_dim / 2;
      for (const name of ["cos", "sin"] as const) {
        const picked = positions.flatMap((position) => [
          ...tables[name].subarray(position * half, (position + 1) * half),
        ]);
        // Tables are made in double and rounded once.
        expect(maxAbsDifference(picked, valuesOf(tensors, `case${golden.case}.${name}_f64`))).toBeLessThan(2e-7);
      }
    }
  });

  test("a model with YaRN", async () => {
    const { tokens } = readJson<RopeCase>("rope/rope.json").yarn_model;
    const tensors = await readTensors("rope/rope.safetensors");
    const modelDir = await mkdtemp(join(tmpdir(), "wideseek-yarn-"));
    try {
      await cp(goldenPath("checkpoints/qwen3-nano/model.safetensors"), join(modelDir, "model.safetensors"));
      await cp(goldenPath("rope/config.yarn.json"), join(modelDir, "config.json"));
      await using policy = await NativePolicy.load({ modelDir, device: "cpu", threads: 2, maxContextTokens: 256 });
      const tokenIds = Int32Array.from(tokens);
      const cuSeqlens = Int32Array.from([0, tokenIds.length]);
      const { logprobs } = await policy.logprobs({ tokenIds, cuSeqlens }, 1);
      expect(maxAbsDifference(logprobs.subarray(1), valuesOf(tensors, "yarn_model.logprobs"))).toBeLessThan(1e-4);
      const logits = await policy.logits(tokenIds);
      const last = logits.subarray((tokenIds.length - 1) * policy.vocabSize);
      expect(maxAbsDifference(last, valuesOf(tensors, "yarn_model.logits_last"))).toBeLessThan(1e-4);
    } finally {
      await rm(modelDir, { recursive: true });
    }
  });
});
