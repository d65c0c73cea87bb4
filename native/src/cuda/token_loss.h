// Per-token losses and their gradients, with statistics that stay on the device. Contract: backend.h.
#pragma once

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

void token_loss(Stream stream, float* dlogprobs, LossStats* stats, const float* logprobs, const float* row_entropy,
                const Targets& targets, const LossInputs& inputs, const LossSettings& settings);

// stats += `more`, as if `more` had been counted after `stats`.
__host__ __device__ inline void add_stats(LossStats& stats, const LossStats& more) {
  if (more.num_tokens == 0) return;
  const bool first = stats.num_tokens == 0;
  stats.num_tokens += more.num_tokens;
  stats.loss += more.loss;
  stats.policy_loss += more.policy_loss;
  stats.sum_ratio += more.sum_ratio;
  if (first || stats.max_ratio < more.max_ratio) stats.max_ratio = more.max_ratio;
  if (first || more.min_ratio < stats.min_ratio) stats.min_ratio = more.min_ratio;
  stats.num_clipped_low += more.num_clipped_low;
  stats.num_clipped_high += more.num_clipped_high;
  stats.num_dual_clipped += more.num_dual_clipped;
  stats.sum_kl_k1 += more.sum_kl_k1;
  stats.sum_kl_k3 += more.sum_kl_k3;
  stats.sum_ref_kl_k3 += more.sum_ref_kl_k3;
  stats.sum_entropy += more.sum_entropy;
  stats.sum_nll += more.sum_nll;
  if (stats.max_abs_logprob_diff < more.max_abs_logprob_diff) stats.max_abs_logprob_diff = more.max_abs_logprob_diff;
}

}  // namespace wideseek::cuda
