// Multi-agent GRPO loss, metrics and gradients for every golden configuration.
import { expect, test } from "vitest";
import { NativePolicy } from "../../packages/engine/src/index.ts";
import {
  describeGolden,
  goldenPath,
  maxAbsDifference,
  packSequences,
  readJson,
  readTensors,
  relativeError,
  type TensorStats,
  tensorStats,
  valuesOf,
} from "./golden.ts";

interface GrpoConfig {
  dual_clip_c: number | null;
  kl_beta: number;
  temperature: number;
  advantages: number[][];
  loss: number;
  response_tokens: number;
  clip_fraction_low: number;
  clip_fraction_high: number;
  dual_clip_fraction: number;
  approx_kl_k1: number;
  approx_kl_k3: number;
  ref_kl_k3_token_mean: number;
  ratio_mean: number;
  ratio_min: number;
  ratio_max: number;
  grad_global_l2: number;
  grad_params?: Record<string, TensorStats>;
  grad_full: boolean;
}
interface GrpoCase {
  clip_low: number;
  clip_high: number;
  groups: { rewards: number[]; rollouts: { agents: { turns: number[] }[] }[] }[];
  sequences: { tokens: number[]; response_mask: number[] }[];
  configs: Record<string, GrpoConfig>;
}

/** Per-token weight 1/(B G N o) and advantage, as in the README of the golden data. */
function fillWeights(golden: GrpoCase, config: GrpoConfig, batch: ReturnType<typeof packSequences>): void {
  for (const [b, group] of golden.groups.entries()) {
    for (const [i, rollout] of group.rollouts.entries()) {
      for (const { turns } of rollout.agents) {
        const trained = turns.flatMap((turn) => {
          const start = batch.cuSeqlens[turn] as number;
          return (golden.sequences[turn]?.response_mask ?? []).flatMap((bit, t) => (bit ? [start + t] : []));
        });
        for (const t of trained) {
          batch.lossWeights[t] =
            1 / (golden.groups.length * group.rollouts.length * rollout.agents.length * trained.length);
          batch.advantages[t] = config.advantages[b]?.[i] ?? Number.NaN;
        }
      }
    }
  }
}

const relative = (actual: number, expected: number): number =>
  expected === 0 ? Math.abs(actual) : Math.abs(actual / expected - 1);

describeGolden("grpo", () => {
  const names = [
    ...["std_pop.nodual.kl0", "std_pop.nodual.kl0.01", "std_pop.dual10.kl0", "std_pop.dual10.kl0.01"],
    ...["std_sample.nodual.kl0", "std_sample.nodual.kl0.01", "std_sample.dual10.kl0", "std_sample.dual10.kl0.01"],
    "std_sample.dual10.kl0.t07",
  ];

  test("every configuration is tested", () => {
    expect(Object.keys(readJson<GrpoCase>("grpo/grpo.json").configs).sort()).toEqual([...names].sort());
  });

  test.each(names)("%s", async (name) => {
    const golden = readJson<GrpoCase>("grpo/grpo.json");
    const tensors = await readTensors("grpo/grpo.safetensors");
    const config = golden.configs[name] as GrpoConfig;
    const warm = config.temperature !== 1;
    await using policy = await NativePolicy.load({
      modelDir: goldenPath("checkpoints/qwen3-nano"),
      device: "cpu",
      threads: 2,
      maxContextTokens: 256,
      maxTrainTokens: 1024,
    });
    const batch = packSequences(golden.sequences.map((sequence) => sequence.tokens));
    fillWeights(golden, config, batch);
    batch.behaviorLogprobs.set(valuesOf(tensors, warm ? "old_logprobs_t07" : "old_logprobs"));
    const refLogprobs = Float32Array.from(valuesOf(tensors, "ref_logprobs"));

    const { logprobs } = await policy.logprobs(batch, config.temperature);
    const trained = logprobs.map((value, t) => ((batch.lossWeights[t] as number) > 0 ? value : 0));
    expect(maxAbsDifference(trained, valuesOf(tensors, warm ? "logprobs_t07" : "logprobs"))).toBeLessThan(1e-4);

    const stats = await policy.forwardBackward(config.kl_beta > 0 ? { ...batch, refLogprobs } : batch, {
      kind: "grpo",
      temperature: config.temperature,
      clipLow: golden.clip_low,
      clipHigh: golden.clip_high,
      dualClip: config.dual_clip_c ?? Infinity,
      klCoefficient: config.kl_beta,
    });
    const n = config.response_tokens;
    expect(stats.numTokens).toBe(n);
    expect(relative(stats.loss, config.loss)).toBeLessThan(1e-5);
    expect(stats.numClippedLow).toBe(Math.round(config.clip_fraction_low * n));
    expect(stats.numClippedHigh).toBe(Math.round(config.clip_fraction_high * n));
    // The golden fraction counts r > c whether or not the bound is on.
    if (config.dual_clip_c !== null) expect(stats.numDualClipped).toBe(Math.round(config.dual_clip_fraction * n));
    expect(relative(stats.sumKlK1 / n, config.approx_kl_k1)).toBeLessThan(1e-5);
    expect(relative(stats.sumKlK3 / n, config.approx_kl_k3)).toBeLessThan(1e-5);
    expect(relative(stats.sumRatio / n, config.ratio_mean)).toBeLessThan(1e-5);
    expect(relative(stats.minRatio, config.ratio_min)).toBeLessThan(1e-5);
    expect(relative(stats.maxRatio, config.ratio_max)).toBeLessThan(1e-5);
    if (config.kl_beta > 0) expect(relative(stats.sumRefKlK3 / n, config.ref_kl_k3_token_mean)).toBeLessThan(1e-5);

    const full = config.grad_full ? await readTensors(`grpo/grads.${name}.safetensors`) : undefined;
    let squares = 0;
    for (const { name: parameter } of policy.parameters) {
      const gradient = await policy.readTensor("gradient", parameter);
      const actual = tensorStats(gradient);
      squares += actual.l2 ** 2;
      const expected = config.grad_params?.[parameter];
      if (expected) {
        expect(relative(actual.l2, expected.l2), parameter).toBeLessThan(3e-5);
        expect(Math.abs(actual.proj - expected.proj), parameter).toBeLessThan(
          3e-5 * expected.l2 * Math.max(1, Math.sqrt(gradient.length) / 2),
        );
      }
      if (full) expect(relativeError(gradient, valuesOf(full, parameter)), parameter).toBeLessThan(3e-5);
    }
    expect(relative(Math.sqrt(squares), config.grad_global_l2)).toBeLessThan(3e-5);
  });
});
