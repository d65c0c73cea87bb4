// config.json in every spelling, and what is refused.
import { describe, expect, test } from "vitest";
import { parseModelConfig } from "./model-config.ts";

const QWEN3 = {
  model_type: "qwen3",
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 192,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  max_position_embeddings: 40960,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  tie_word_embeddings: true,
};

const QWEN3_MOE = {
  ...QWEN3,
  model_type: "qwen3_moe",
  num_experts: 8,
  num_experts_per_tok: 2,
  moe_intermediate_size: 48,
  norm_topk_prob: true,
  decoder_sparse_step: 1,
  mlp_only_layers: [],
};

describe("spellings", () => {
  test("qwen3", () => {
    expect(parseModelConfig(QWEN3).native).toEqual({
      vocabSize: 512,
      hiddenSize: 64,
      intermediateSize: 192,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 32,
      maxPositionEmbeddings: 40960,
      rmsNormEps: 1e-6,
      ropeTheta: 1_000_000,
      tieWordEmbeddings: true,
      qkvBias: false,
      qkNorm: true,
    });
  });

  test("qwen2 has biases, no head norms, and a head_dim by division", () => {
    const { head_dim: _, ...rest } = QWEN3;
    expect(parseModelConfig({ ...rest, model_type: "qwen2" }).native).toMatchObject({
      headDim: 16,
      qkvBias: true,
      qkNorm: false,
    });
  });

  test("rope_parameters of transformers 5 win over rope_theta", () => {
    const rope_parameters = { rope_type: "default", rope_theta: 5000 };
    expect(parseModelConfig({ ...QWEN3, rope_parameters }).native.ropeTheta).toBe(5000);
  });

  test.each([{ rope_type: "yarn" }, { type: "yarn" }])("YaRN as %j", (kind) => {
    const rope_scaling = { ...kind, factor: 4, original_max_position_embeddings: 32768 };
    const { native } = parseModelConfig({ ...QWEN3, rope_scaling });
    expect(native.yarn).toEqual({
      factor: 4,
      originalMaxPositionEmbeddings: 32768,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 0.1 * Math.log(4) + 1,
    });
    expect(native.maxPositionEmbeddings).toBe(131072);
  });

  test("qwen3_moe", () => {
    const { native } = parseModelConfig(QWEN3_MOE);
    expect(native).toMatchObject({ intermediateSize: 192, qkvBias: false, qkNorm: true });
    expect(native.moe).toEqual({
      numExperts: 8,
      expertsPerToken: 2,
      intermediateSize: 48,
      normalizeShares: true,
      layers: Int32Array.of(0, 1),
    });
  });

  test.each<[string, Record<string, unknown>, number[]]>([
    ["all", { mlp_only_layers: null }, [0, 1, 2, 3, 4]],
    ["every second", { decoder_sparse_step: 2 }, [1, 3]],
    ["all but two", { mlp_only_layers: [0, 3] }, [1, 2, 4]],
    ["both rules", { decoder_sparse_step: 2, mlp_only_layers: [3] }, [1]],
  ])("layers with experts: %s", (_what, change, layers) => {
    const { native } = parseModelConfig({ ...QWEN3_MOE, num_hidden_layers: 5, ...change });
    expect([...(native.moe?.layers ?? [])]).toEqual(layers);
  });

  test("no layer with experts is a dense model", () => {
    expect(parseModelConfig({ ...QWEN3_MOE, mlp_only_layers: [0, 1] }).native).not.toHaveProperty("moe");
    expect(parseModelConfig({ ...QWEN3, num_experts: 8 }).native).not.toHaveProperty("moe");
  });

  test("the object is kept as it was", () => {
    const raw = { ...QWEN3, something_new: [1, 2] };
    expect(parseModelConfig(raw).raw).toBe(raw);
  });
});

describe("refused", () => {
  test.each<[string, Record<string, unknown>, string, string]>([
    ["another architecture", { model_type: "qwen2_moe" }, "WS_UNSUPPORTED", "qwen2_moe"],
    ["a name that every object has", { model_type: "toString" }, "WS_UNSUPPORTED", "toString"],
    ["quantized weights", { quantization_config: { quant_method: "fp8" } }, "WS_UNSUPPORTED", "quantization_config"],
    ["another activation", { hidden_act: "gelu" }, "WS_UNSUPPORTED", "hidden_act"],
    ["a sliding window", { use_sliding_window: true }, "WS_UNSUPPORTED", "sliding"],
    ["a sliding layer", { layer_types: ["full_attention", "sliding_attention"] }, "WS_UNSUPPORTED", "sliding"],
    ["attention_bias", { attention_bias: true }, "WS_UNSUPPORTED", "attention_bias"],
    ["another rope", { rope_scaling: { rope_type: "llama3", factor: 8 } }, "WS_UNSUPPORTED", "llama3"],
    ["no vocabulary", { vocab_size: undefined }, "WS_INVALID_ARGUMENT", "vocab_size"],
    ["a fractional size", { hidden_size: 64.5 }, "WS_INVALID_ARGUMENT", "hidden_size"],
    ["a size as text", { hidden_size: "64" }, "WS_INVALID_ARGUMENT", "hidden_size"],
    ["heads that do not divide", { num_key_value_heads: 3 }, "WS_INVALID_ARGUMENT", "num_key_value_heads"],
    ["an odd head", { head_dim: 31 }, "WS_INVALID_ARGUMENT", "head_dim"],
    ["no model_type", { model_type: undefined }, "WS_INVALID_ARGUMENT", "model_type"],
  ])("%s", (_what, change, code, hint) => {
    expect(() => parseModelConfig({ ...QWEN3, ...change }, "some/config.json")).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(new RegExp(`some/config.json.*${hint}`)) }),
    );
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["no number of experts", { num_experts: undefined }, "num_experts"],
    ["no experts", { num_experts: 0 }, "num_experts"],
    ["no choice", { num_experts_per_tok: undefined }, "num_experts_per_tok"],
    ["more chosen than there are", { num_experts_per_tok: 9 }, "num_experts_per_tok 9 is above num_experts 8"],
    ["no width", { moe_intermediate_size: undefined }, "moe_intermediate_size"],
    ["no word on normalization", { norm_topk_prob: undefined }, "norm_topk_prob"],
    ["a step of 0", { decoder_sparse_step: 0 }, "decoder_sparse_step"],
    ["a layer that is not there", { mlp_only_layers: [2] }, "mlp_only_layers names layer 2"],
    ["a layer below 0", { mlp_only_layers: [-1] }, "mlp_only_layers"],
  ])("experts: %s", (_what, change, hint) => {
    const invalid = { code: "WS_INVALID_ARGUMENT", message: expect.stringMatching(new RegExp(`config.json.*${hint}`)) };
    expect(() => parseModelConfig({ ...QWEN3_MOE, ...change })).toThrow(expect.objectContaining(invalid));
  });

  test.each([null, 5, "qwen3", []])("%j is no config", (raw) => {
    expect(() => parseModelConfig(raw)).toThrow(expect.objectContaining({ code: "WS_INVALID_ARGUMENT" }));
  });
});
