// Shape of a Qwen3 or Qwen2 decoder, as config.json states it. Parsed and range-checked in TypeScript, re-checked here.
#pragma once

#include <cstdint>
#include <optional>

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

struct ModelConfig {
  int64_t vocab_size;
  int64_t hidden_size;        // C
  int64_t intermediate_size;  // F
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
};

// Throws kInvalidArgument naming the field.
void validate(const ModelConfig& config);

}  // namespace wideseek
