// Range checks of a model configuration.
#include "model/config.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "validate(ModelConfig)";

void check_range(const char* field, int64_t value, int64_t low, int64_t high) {
  WS_CHECK(value >= low && value <= high, kInvalidArgument, kOp,
           std::string(field) + ": got " + std::to_string(value) + ", must be in [" + std::to_string(low) + ", " +
               std::to_string(high) + "]");
}

void check_positive(const char* field, double value) {
  WS_CHECK(std::isfinite(value) && value > 0, kInvalidArgument, kOp,
           std::string(field) + ": got " + std::to_string(value) + ", must be a finite number above 0");
}

void check_moe(const MoeConfig& moe, int64_t num_layers) {
  check_range("num_experts", moe.num_experts, 1, 1 << 12);
  check_range("num_experts_per_tok", moe.experts_per_token, 1, moe.num_experts);
  check_range("moe_intermediate_size", moe.intermediate_size, 1, 1 << 19);
  WS_CHECK(static_cast<int64_t>(moe.layers.size()) == num_layers, kInvalidArgument, kOp,
           "layers with experts: got " + std::to_string(moe.layers.size()) + " entries, num_hidden_layers is " +
               std::to_string(num_layers));
}

}  // namespace

void validate(const ModelConfig& config) {
  // The upper bounds keep every product of two sizes far inside int64 and every index of one row inside int32.
  check_range("vocab_size", config.vocab_size, 2, int64_t{1} << 24);
  check_range("hidden_size", config.hidden_size, 1, 1 << 17);
  check_range("intermediate_size", config.intermediate_size, 1, 1 << 19);
  check_range("num_hidden_layers", config.num_layers, 1, 1024);
  check_range("num_attention_heads", config.num_heads, 1, 1024);
  check_range("num_key_value_heads", config.num_kv_heads, 1, config.num_heads);
  check_range("head_dim", config.head_dim, 2, 1024);
  check_range("max_position_embeddings", config.max_position_embeddings, 1, 1 << 24);
  WS_CHECK(config.num_heads % config.num_kv_heads == 0, kInvalidArgument, kOp,
           "num_key_value_heads: got " + std::to_string(config.num_kv_heads) + ", must divide num_attention_heads " +
               std::to_string(config.num_heads));
  WS_CHECK(config.head_dim % 2 == 0, kInvalidArgument, kOp,
           "head_dim: got " + std::to_string(config.head_dim) + ", must be even (RoPE rotates halves)");
  if (config.moe) check_moe(*config.moe, config.num_layers);
  check_positive("rms_norm_eps", config.rms_norm_eps);
  check_positive("rope_theta", config.rope_theta);
  WS_CHECK(config.rope_theta > 1, kInvalidArgument, kOp,
           "rope_theta: got " + std::to_string(config.rope_theta) + ", must be above 1");
  if (config.yarn) {
    check_positive("rope_scaling.factor", config.yarn->factor);
    check_positive("rope_scaling.original_max_position_embeddings", config.yarn->original_max_position_embeddings);
    check_positive("rope_scaling.beta_fast", config.yarn->beta_fast);
    check_positive("rope_scaling.beta_slow", config.yarn->beta_slow);
    check_positive("rope_scaling.attention_factor", config.yarn->attention_factor);
  }
}

}  // namespace wideseek
