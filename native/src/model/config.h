// Shape of a Qwen3, Qwen3-MoE or Qwen2 decoder, as config.json states it. Parsed and range-checked in TypeScript,
// re-checked here.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/dtype.h"

namespace wideseek {

// YaRN context extension (arXiv 2309.00071; HF modeling_rope_utils.py, _compute_yarn_parameters).
struct YarnConfig {
  double factor;
  double original_max_position_embeddings;
  double beta_fast;
  double beta_slow;
  double attention_factor;  // multiplies cos and sin
};

// Layers whose MLP is a router and experts (HF modeling_qwen3_moe.py, Qwen3MoeSparseMoeBlock).
struct MoeConfig {
  int64_t num_experts;        // E
  int64_t experts_per_token;  // k, at most E
  int64_t intermediate_size;  // of one expert
  bool normalize_shares;      // the k probabilities of a token are divided by their sum
  std::vector<bool> layers;   // of all L layers, those that have experts; the others have a dense MLP
};

struct ModelConfig {
  int64_t vocab_size;
  int64_t hidden_size;        // C
  int64_t intermediate_size;  // F, of dense layers
  int64_t num_layers;         // L
  int64_t num_heads;          // H
  int64_t num_kv_heads;       // K, divides H
  int64_t head_dim;           // D, even; H*D need not equal C
  int64_t max_position_embeddings;
  double rms_norm_eps;
  double rope_theta;
  std::optional<YarnConfig> yarn;
  bool tie_word_embeddings;
  bool qkv_bias;  // Qwen2: biases on q, k, v
  bool qk_norm;   // Qwen3: RMSNorm per head on q and k, before RoPE
  std::optional<MoeConfig> moe = std::nullopt;

  bool has_experts(int64_t layer) const { return moe && moe->layers[static_cast<size_t>(layer)]; }
};

// Throws kInvalidArgument naming the field.
void validate(const ModelConfig& config);

}  // namespace wideseek
