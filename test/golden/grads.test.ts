// Gradients of the mean NLL of every golden model, whole or sampled, with and without recomputed activations.
import { expect, test } from "vitest";
import { NativePolicy } from "../../packages/engine/src/index.ts";
import {
  describeGolden,
  goldenPath,
  packSequences,
  readJson,
  readTensors,
  relativeError,
  type TensorStats,
  tensorStats,
  valuesOf,
} from "./golden.ts";

interface GradientCase {
  loss: number;
  target_tokens: number;
  storage: "full" | "sampled";
  params: Record<string, TensorStats>;
}

const TOLERANCE = 3e-5;

describeGolden("gradients", () => {
  test.each([
    ["qwen2-nano", "none"],
    ["qwen2-nano", "full"],
    ["qwen3-hd128", "none"],
    ["qwen3-micro", "selective"],
    ["qwen3-nano", "none"],
    ["qwen3-nano", "full"],
  ] as const)("%s, recompute %s", async (name, recompute) => {
    const golden = readJson<GradientCase>(`grads/${name}.nll.json`);
    const tensors = await readTensors(`grads/${name}.nll.safetensors`);
    const { sequences } = readJson<{ sequences: number[][] }>(`forward/${name}.json`);
    await using policy = await NativePolicy.load({
      modelDir: goldenPath(`checkpoints/${name}`),
      device: "cpu",
      threads: 2,
      maxContextTokens: 256,
      maxTrainTokens: 512,
      recompute,
    });
    const stats = await policy.forwardBackward(packSequences(sequences, 1 / golden.target_tokens), { kind: "nll" });
    expect(stats.numTokens).toBe(golden.target_tokens);
    expect(Math.abs(stats.loss / golden.loss - 1)).toBeLessThan(1e-5);
    expect(policy.parameters.map((parameter) => parameter.name).sort()).toEqual(Object.keys(golden.params).sort());
    for (const [parameter, expected] of Object.entries(golden.params)) {
      const gradient = await policy.readTensor("gradient", parameter);
      const actual = tensorStats(gradient);
      expect(Math.abs(actual.l2 / expected.l2 - 1), parameter).toBeLessThan(TOLERANCE);
      // |proj| of an error is at most its norm times sqrt(n)/2.
      expect(Math.abs(actual.proj - expected.proj), parameter).toBeLessThan(
        TOLERANCE * expected.l2 * Math.max(1, Math.sqrt(gradient.length) / 2),
      );
      if (golden.storage === "full") {
        expect(relativeError(gradient, valuesOf(tensors, parameter)), parameter).toBeLessThan(TOLERANCE);
      } else {
        const sampled = Array.from(valuesOf(tensors, `${parameter}::idx`), (index) => gradient[index] as number);
        // A few small entries carry the error of the whole tensor.
        const tolerance = (TOLERANCE * expected.l2) / Math.hypot(...valuesOf(tensors, `${parameter}::val`));
        expect(relativeError(sampled, valuesOf(tensors, `${parameter}::val`)), parameter).toBeLessThan(tolerance);
      }
    }
  });
});
