// Reads config.json of a Qwen3, Qwen3-MoE or Qwen2 checkpoint, in the spelling of transformers 4 and 5. Owns the defaults.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, invalidInput, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import type { NativeModelConfig } from "./binding.ts";

const count = z.int().min(1);

const ropeSchema = z
  .object({
    rope_type: z.string().nullish(),
    // Spelling before transformers 4.45.
    type: z.string().nullish(),
    rope_theta: z.number().positive().nullish(),
    factor: z.number().min(1).nullish(),
    original_max_position_embeddings: count.nullish(),
    attention_factor: z.number().positive().nullish(),
    beta_fast: z.number().positive().nullish(),
    beta_slow: z.number().positive().nullish(),
    mscale: z.number().nullish(),
    mscale_all_dim: z.number().nullish(),
    truncate: z.boolean().nullish(),
  })
  .nullish();

/** model_type, and what it decides. */
const ARCHITECTURES = {
  qwen3: { qkvBias: false, qkNorm: true, moe: false },
  qwen3_moe: { qkvBias: false, qkNorm: true, moe: true },
  qwen2: { qkvBias: true, qkNorm: false, moe: false },
} as const;

const configSchema = z.object({
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  max_position_embeddings: count.default(32_768),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeSchema,
  rope_parameters: ropeSchema,
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().nullish(),
  hidden_act: z.string().default("silu"),
  use_sliding_window: z.boolean().nullish(),
  layer_types: z.array(z.string()).nullish(),
  initializer_range: z.number().positive().default(0.02),
  quantization_config: z.unknown().optional(),
});
/** Fields of qwen3_moe alone; those that transformers always writes are required. */
const moeSchema = z.object({
  num_experts: count,
  num_experts_per_tok: count,
  moe_intermediate_size: count,
  norm_topk_prob: z.boolean(),
  decoder_sparse_step: count.default(1),
  mlp_only_layers: z.array(z.int().min(0)).nullish(),
});
type HuggingFaceConfig = z.output<typeof configSchema>;

/** A checked config.json. */
export interface ModelConfig {
  native: NativeModelConfig;
  /** Standard deviation for random weights. */
  initializerRange: number;
  /** The object as it was read; saved again unchanged. */
  raw: Readonly<Record<string, unknown>>;
}

/** @throws WS_IO, WS_CORRUPT_FILE, WS_INVALID_ARGUMENT, WS_UNSUPPORTED, each naming the file */
export async function readModelConfig(directory: string): Promise<ModelConfig> {
  const path = join(directory, "config.json");
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new WideSeekError("WS_IO", `${path}: ${errorMessage(error)}`, { details: { path }, cause: error });
  });
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${path}: ${errorMessage(error)}`, { details: { path }, cause: error });
  }
  return parseModelConfig(raw, path);
}

/** @throws WS_INVALID_ARGUMENT, WS_UNSUPPORTED; `where` opens the message */
export function parseModelConfig(raw: unknown, where = "config.json"): ModelConfig {
  const unsupported = (what: string): WideSeekError =>
    new WideSeekError("WS_UNSUPPORTED", `${where}: ${what}`, { op: "readModelConfig", details: { where } });
  // First, so that another architecture is named as such and not by a field that it lacks.
  const type = typeof raw === "object" && raw !== null && "model_type" in raw ? raw.model_type : undefined;
  if (type !== undefined && !(typeof type === "string" && Object.hasOwn(ARCHITECTURES, type))) {
    const known = Object.keys(ARCHITECTURES).join(", ");
    throw unsupported(`model_type ${JSON.stringify(type)}; supported are ${known}`);
  }
  const parsed = configSchema.safeParse(raw);
  if (!parsed.success) throw invalidInput(where, parsed.error);
  const config = parsed.data;
  const { qkvBias, qkNorm, moe } = ARCHITECTURES[config.model_type as keyof typeof ARCHITECTURES];
  if (config.quantization_config != null) throw unsupported("quantized weights (quantization_config)");
  if (config.hidden_act !== "silu") throw unsupported(`hidden_act ${JSON.stringify(config.hidden_act)}`);
  if (config.use_sliding_window || config.layer_types?.some((layer) => layer !== "full_attention")) {
    throw unsupported("sliding-window attention");
  }
  if (!qkvBias && config.attention_bias) throw unsupported(`attention_bias true for ${config.model_type}`);

  const headDim = config.head_dim ?? Math.floor(config.hidden_size / config.num_attention_heads);
  const numKvHeads = config.num_key_value_heads ?? config.num_attention_heads;
  const invalid = (message: string): WideSeekError =>
    new WideSeekError("WS_INVALID_ARGUMENT", `${where}: ${message}`, { op: "readModelConfig", details: { where } });
  if (config.num_attention_heads % numKvHeads !== 0) {
    throw invalid(
      `num_key_value_heads ${numKvHeads} does not divide num_attention_heads ${config.num_attention_heads}`,
    );
  }
  if (headDim % 2 !== 0 || headDim === 0) throw invalid(`head_dim ${headDim} is not an even number above 0`);

  const rope = config.rope_parameters ?? config.rope_scaling ?? {};
  const ropeType = rope.rope_type ?? rope.type ?? "default";
  if (ropeType !== "default" && ropeType !== "yarn") throw unsupported(`rope_type ${JSON.stringify(ropeType)}`);
  if (rope.truncate === false) throw unsupported("YaRN with truncate false");
  const yarn = ropeType === "yarn" ? yarnOf(config, rope, invalid) : undefined;
  return {
    native: {
      vocabSize: config.vocab_size,
      hiddenSize: config.hidden_size,
      intermediateSize: config.intermediate_size,
      numLayers: config.num_hidden_layers,
      numHeads: config.num_attention_heads,
      numKvHeads,
      headDim,
      // A stretched model may go as far as the stretched window, whatever the field says.
      maxPositionEmbeddings: Math.max(
        config.max_position_embeddings,
        yarn ? Math.floor(yarn.factor * yarn.originalMaxPositionEmbeddings) : 0,
      ),
      rmsNormEps: config.rms_norm_eps,
      ropeTheta: rope.rope_theta ?? config.rope_theta ?? 10_000,
      ...(yarn ? { yarn } : {}),
      tieWordEmbeddings: config.tie_word_embeddings,
      qkvBias,
      qkNorm,
      ...(moe ? moeOf(raw, config.num_hidden_layers, where, invalid) : {}),
    },
    initializerRange: config.initializer_range,
    raw: raw as Record<string, unknown>,
  };
}

/** @throws WS_UNSUPPORTED, opening with `what`: there is no backward pass through experts */
export function checkTrainable({ native }: ModelConfig, what: string): void {
  if (!native.moe) return;
  throw new WideSeekError(
    "WS_UNSUPPORTED",
    `${what}: a mixture of experts generates and scores, it cannot be trained`,
    {
      op: "checkTrainable",
    },
  );
}

/** Which layers have experts: transformers, modeling_qwen3_moe.py, Qwen3MoeDecoderLayer. */
function moeOf(
  raw: unknown,
  numLayers: number,
  where: string,
  invalid: (message: string) => WideSeekError,
): Pick<NativeModelConfig, "moe"> {
  const parsed = moeSchema.safeParse(raw);
  if (!parsed.success) throw invalidInput(where, parsed.error);
  const config = parsed.data;
  if (config.num_experts_per_tok > config.num_experts) {
    throw invalid(`num_experts_per_tok ${config.num_experts_per_tok} is above num_experts ${config.num_experts}`);
  }
  const dense = new Set(config.mlp_only_layers ?? []);
  const absent = [...dense].find((layer) => layer >= numLayers);
  if (absent !== undefined) throw invalid(`mlp_only_layers names layer ${absent}, the model has ${numLayers}`);
  const layers = Array.from({ length: numLayers }, (_, layer) => layer).filter(
    (layer) => !dense.has(layer) && (layer + 1) % config.decoder_sparse_step === 0,
  );
  if (layers.length === 0) return {};
  return {
    moe: {
      numExperts: config.num_experts,
      expertsPerToken: config.num_experts_per_tok,
      intermediateSize: config.moe_intermediate_size,
      normalizeShares: config.norm_topk_prob,
      layers: Int32Array.from(layers),
    },
  };
}

/** Defaults as in transformers, modeling_rope_utils.py, _compute_yarn_parameters. */
function yarnOf(
  config: HuggingFaceConfig,
  rope: NonNullable<z.output<typeof ropeSchema>>,
  invalid: (message: string) => WideSeekError,
): NonNullable<NativeModelConfig["yarn"]> {
  const original = rope.original_max_position_embeddings ?? config.max_position_embeddings;
  const factor = rope.factor ?? config.max_position_embeddings / original;
  if (factor < 1) throw invalid(`YaRN factor ${factor} is below 1`);
  const magnitude = (scale: number): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const attentionFactor =
    rope.attention_factor ??
    (rope.mscale && rope.mscale_all_dim ? magnitude(rope.mscale) / magnitude(rope.mscale_all_dim) : magnitude(1));
  return {
    factor,
    originalMaxPositionEmbeddings: original,
    betaFast: rope.beta_fast ?? 32,
    betaSlow: rope.beta_slow ?? 1,
    attentionFactor,
  };
}
