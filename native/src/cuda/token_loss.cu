// Weighted NLL and the clipped GRPO objective, the formulas of cpu/grpo_loss.cc. In double.
#include "cuda/token_loss.h"

namespace wideseek::cuda {
namespace {

// One block: a chunk has a few thousand targets, a few microseconds of work.
constexpr int kBlock = 256;

// Adds one target to `stats`, but for what both losses count. Returns d(weight * loss) / d logprob.
__device__ __forceinline__ double grpo_token(LossStats& stats, double logprob, double behavior, const float* ref,
                                             double advantage, double weight, const LossSettings& settings) {
  const double log_ratio = logprob - behavior;
  const double ratio = ::exp(log_ratio);
  const double low = 1.0 - static_cast<double>(settings.clip_low);
  const double high = 1.0 + static_cast<double>(settings.clip_high);
  const double unclipped = ratio * advantage;
  const double clipped = (ratio < low ? low : high < ratio ? high : ratio) * advantage;
  double objective = clipped < unclipped ? clipped : unclipped;
  double dobjective = clipped < unclipped ? 0.0 : unclipped;
  if (advantage < 0 && objective < settings.dual_clip * advantage) {
    objective = settings.dual_clip * advantage;
    dobjective = 0.0;
  }
  double loss = -objective;
  double dloss = -dobjective;
  if (ref != nullptr) {
    const double difference = static_cast<double>(*ref) - logprob;
    const double inverse_ratio = ::exp(difference);
    const double kl = inverse_ratio - difference - 1.0;
    stats.sum_ref_kl_k3 += kl;
    if (settings.kl_coefficient > 0) {
      loss += settings.kl_coefficient * kl;
      dloss += settings.kl_coefficient * (1.0 - inverse_ratio);
    }
  }
  const bool first = stats.num_tokens == 0;
  stats.loss += weight * loss;
  stats.policy_loss -= weight * objective;
  if (first || ratio < stats.min_ratio) stats.min_ratio = ratio;
  if (first || stats.max_ratio < ratio) stats.max_ratio = ratio;
  stats.sum_ratio += ratio;
  stats.num_clipped_low += advantage < 0 && ratio < low;
  stats.num_clipped_high += advantage > 0 && ratio > high;
  stats.num_dual_clipped += advantage < 0 && ratio > settings.dual_clip;
  stats.sum_kl_k1 -= log_ratio;
  stats.sum_kl_k3 += ratio - 1.0 - log_ratio;
  if (stats.max_abs_logprob_diff < ::fabs(log_ratio)) stats.max_abs_logprob_diff = ::fabs(log_ratio);
  return weight * dloss;
}

// Thread t takes targets t, t + 256, ...; then the threads' sums are added in a tree.
__global__ void __launch_bounds__(kBlock, 1)
    token_loss_kernel(float* dlogprobs, LossStats* total, const float* logprobs, const float* row_entropy,
                      Targets targets, LossInputs inputs, LossSettings settings) {
  LossStats stats{};
  for (int64_t k = threadIdx.x; k < targets.num_targets; k += kBlock) {
    const double logprob = logprobs[k];
    const double weight = inputs.weights[k];
    double dlogprob = -weight;
    if (settings.kind == LossKind::kGrpo) {
      dlogprob = grpo_token(stats, logprob, inputs.behavior_logprobs[k],
                            inputs.ref_logprobs == nullptr ? nullptr : inputs.ref_logprobs + k, inputs.advantages[k],
                            weight, settings);
    } else {
      stats.loss -= weight * logprob;
      stats.policy_loss -= weight * logprob;
    }
    dlogprobs[k] = static_cast<float>(dlogprob);
    stats.sum_nll -= logprob;
    stats.sum_entropy += row_entropy[targets.rows[k]];
    ++stats.num_tokens;
  }
  __shared__ LossStats of_threads[kBlock];
  of_threads[threadIdx.x] = stats;
  for (unsigned half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) add_stats(of_threads[threadIdx.x], of_threads[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) add_stats(*total, of_threads[0]);
}

}  // namespace

void token_loss(Stream stream, float* dlogprobs, LossStats* stats, const float* logprobs, const float* row_entropy,
                const Targets& targets, const LossInputs& inputs, const LossSettings& settings) {
  launch(token_loss_kernel, {1, kBlock}, stream, dlogprobs, stats, logprobs, row_entropy, targets, inputs, settings);
}

}  // namespace wideseek::cuda
