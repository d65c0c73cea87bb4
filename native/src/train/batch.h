// Packed training batch and loss settings; the same fields as packages/spec/src/batch.ts.
#pragma once

#include <cstdint>

namespace wideseek {

// Views, not owners. T tokens, B sequences. Entry t of a per-token array belongs to token_ids[t], predicted from t-1.
struct PackedBatch {
  int64_t num_tokens;
  int64_t num_sequences;
  const int32_t* token_ids;        // [T]
  const int32_t* cu_seqlens;       // [B+1]
  const float* loss_weights;       // [T], 0 = not trained
  const float* advantages;         // [T], may be null for nll
  const float* behavior_logprobs;  // [T], may be null for nll
  const float* ref_logprobs;       // [T] or null
};

enum class LossKind { kNll, kGrpo };

struct LossSettings {
  LossKind kind;
  float temperature;
  float clip_low;
  float clip_high;
  float dual_clip;       // infinity = off
  float kl_coefficient;  // 0 = off
};

// Sums over tokens with a weight other than 0, in double.
struct LossStats {
  int64_t num_tokens;
  double loss;
  double policy_loss;
  double sum_ratio;
  double max_ratio;
  double min_ratio;
  int64_t num_clipped_low;
  int64_t num_clipped_high;
  int64_t num_dual_clipped;
  double sum_kl_k1;
  double sum_kl_k3;
  double sum_ref_kl_k3;
  double sum_entropy;
  double sum_nll;
  double max_abs_logprob_diff;
};

// Throw kInvalidArgument with the field, what was given and what is allowed.
void validate(const PackedBatch& batch, int64_t vocab_size, int64_t max_tokens);
void validate(const PackedBatch& batch, const LossSettings& settings);

}  // namespace wideseek
