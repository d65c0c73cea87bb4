// AdamW against torch: single tensors over four steps, and three real training steps.
import { expect, test } from "vitest";
import type { NativeEngine, ParameterInfo } from "../../packages/engine/src/binding.ts";
import {
  describeGolden,
  type GoldenTensor,
  maxAbsDifference,
  packSequences,
  readJson,
  readTensors,
  startEngine,
  valuesOf,
} from "./golden.ts";

interface AdamWCase {
  variants: Record<string, { grad_norm_before_clip: number[] }>;
  train_3_steps: { f64: { losses: number[]; grad_norms: number[] } };
}

const SETTINGS = { learningRate: 1e-3, maxGradNorm: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };

const TENSORS = ["a.weight", "b.weight", "c.norm.weight", "d.bias", "e.weight"];

/** Puts each golden tensor at the start of a parameter of the model, all other values 0, and takes four steps. */
async function runUnit(
  engine: NativeEngine,
  parameters: readonly ParameterInfo[],
  tensors: ReadonlyMap<string, GoldenTensor>,
  place: (name: string) => string,
  expected: (
    kind: "param" | "exp_avg" | "exp_avg_sq",
    step: number,
    name: string,
  ) => GoldenTensor["values"] | undefined,
  gradNorms: readonly number[],
): Promise<void> {
  const sizeOf = (index: number): number => (parameters[index]?.shape ?? []).reduce((a, b) => a * b, 1);
  const indexOf = (name: string): number => parameters.findIndex((parameter) => parameter.name === place(name));
  const padded = (values: ArrayLike<number>, index: number): Float32Array => {
    const whole = new Float32Array(sizeOf(index));
    whole.set(values);
    return whole;
  };
  for (const [index] of parameters.entries()) {
    await engine.writeTensor("weight", index, new Float32Array(sizeOf(index)));
  }
  for (const name of TENSORS) {
    await engine.writeTensor("weight", indexOf(name), padded(valuesOf(tensors, `param.0.${name}`), indexOf(name)));
  }
  for (let step = 1; step <= 4; step++) {
    for (const name of TENSORS) {
      const gradient = padded(valuesOf(tensors, `grad.${step}.${name}`), indexOf(name));
      await engine.writeTensor("gradient", indexOf(name), gradient);
    }
    const { gradNorm, skipped } = await engine.optimizerStep(SETTINGS);
    expect(skipped).toBe(false);
    expect(Math.abs(gradNorm / (gradNorms[step - 1] as number) - 1)).toBeLessThan(1e-6);
    for (const name of TENSORS) {
      const kinds = { param: "weight", exp_avg: "firstMoment", exp_avg_sq: "secondMoment" } as const;
      for (const [golden, kind] of Object.entries(kinds) as [
        keyof typeof kinds,
        (typeof kinds)[keyof typeof kinds],
      ][]) {
        const wanted = expected(golden, step, name);
        if (!wanted) continue;
        const actual = (await engine.readTensor(kind, indexOf(name))).subarray(0, wanted.length);
        expect(maxAbsDifference(actual, wanted), `${golden} ${name} ${step}`).toBeLessThan(5e-7);
      }
    }
  }
}

describeGolden("adamw", () => {
  // Both start from fresh moments.
  const layer = "model.layers.0.";
  const matrices: Record<string, string> = {
    "a.weight": `${layer}self_attn.q_proj.weight`,
    "b.weight": `${layer}self_attn.k_proj.weight`,
    "c.norm.weight": `${layer}self_attn.v_proj.weight`,
    "d.bias": `${layer}mlp.up_proj.weight`,
    "e.weight": `${layer}mlp.down_proj.weight`,
  };
  const vectors: Record<string, string> = {
    "c.norm.weight": `${layer}input_layernorm.weight`,
    "d.bias": `${layer}post_attention_layernorm.weight`,
  };

  test("every tensor decayed", async () => {
    const golden = readJson<AdamWCase>("adamw/adamw.json");
    const tensors = await readTensors("adamw/unit.safetensors");
    const { engine, parameters } = await startEngine("checkpoints/qwen3-nano");
    await runUnit(
      engine,
      parameters,
      tensors,
      (name) => matrices[name] as string,
      (kind, step, name) => tensors.get(`all_decay.f64.${kind}.${step}.${name}`)?.values,
      golden.variants["all_decay.f64"]?.grad_norm_before_clip ?? [],
    );
    await engine.close();
  });

  test("norms and biases not decayed", async () => {
    const golden = readJson<AdamWCase>("adamw/adamw.json");
    const tensors = await readTensors("adamw/unit.safetensors");
    const { engine, parameters } = await startEngine("checkpoints/qwen3-nano");
    await runUnit(
      engine,
      parameters,
      tensors,
      (name) => vectors[name] ?? (matrices[name] as string),
      (kind, step, name) =>
        (tensors.get(`no_decay_1d.f64.${kind}.${step}.${name}`) ?? tensors.get(`all_decay.f64.${kind}.${step}.${name}`))
          ?.values,
      golden.variants["no_decay_1d.f64"]?.grad_norm_before_clip ?? [],
    );
    await engine.close();
  });

  test("three training steps", async () => {
    const golden = readJson<AdamWCase>("adamw/adamw.json").train_3_steps.f64;
    const final = await readTensors("adamw/train_3_steps.params.safetensors");
    const { sequences } = readJson<{ sequences: number[][] }>("forward/qwen3-nano.json");
    const { engine, parameters } = await startEngine("checkpoints/qwen3-nano");
    const batch = packSequences(sequences, 1 / sequences.reduce((sum, sequence) => sum + sequence.length - 1, 0));
    for (let step = 0; step < 3; step++) {
      const { loss } = await engine.forwardBackward(batch, { kind: "nll" });
      expect(Math.abs(loss / (golden.losses[step] as number) - 1)).toBeLessThan(1e-5);
      // The golden run decays norms as well, which the engine does not: done here by hand, before the step as AdamW does.
      for (const [index, { decayed }] of parameters.entries()) {
        if (decayed) continue;
        const weights = await engine.readTensor("weight", index);
        const decay = 1 - SETTINGS.learningRate * SETTINGS.weightDecay;
        await engine.writeTensor(
          "weight",
          index,
          weights.map((weight) => weight * decay),
        );
      }
      const { gradNorm } = await engine.optimizerStep(SETTINGS);
      expect(Math.abs(gradNorm / (golden.grad_norms[step] as number) - 1)).toBeLessThan(1e-5);
    }
    const { loss } = await engine.forwardBackward(batch, { kind: "nll" });
    expect(Math.abs(loss / (golden.losses[3] as number) - 1)).toBeLessThan(1e-5);
    for (const [index, { name }] of parameters.entries()) {
      expect(maxAbsDifference(await engine.readTensor("weight", index), valuesOf(final, name)), name).toBeLessThan(
        3e-5,
      );
    }
    await engine.close();
  });
});
