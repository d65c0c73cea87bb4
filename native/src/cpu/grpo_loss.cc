// Per-token losses and their gradients with respect to the log-probability: weighted NLL, and the clipped multi-agent
// GRPO objective (WideSeek-R1, arXiv 2602.04634) with dual clip and k3 KL. In double; a few operations per token.
#include <algorithm>
#include <cmath>

#include "cpu/row_ops.h"

namespace wideseek::cpu {
namespace {

// r = p / p_behavior. J = min(r A, clip(r) A), and max(J, c A) where A < 0. A value that overflows gives a gradient
// that is not finite, which the optimizer answers by skipping the step.
double grpo_token(LossStats& stats, double logprob, double behavior, const float* ref, double advantage, double weight,
                  const LossSettings& settings) {
  const double log_ratio = logprob - behavior;
  const double ratio = std::exp(log_ratio);
  const double low = 1.0 - static_cast<double>(settings.clip_low);
  const double high = 1.0 + static_cast<double>(settings.clip_high);
  const double unclipped = ratio * advantage;
  const double clipped = std::clamp(ratio, low, high) * advantage;
  double objective = std::min(unclipped, clipped);
  double dobjective = clipped < unclipped ? 0.0 : unclipped;
  if (advantage < 0 && objective < settings.dual_clip * advantage) {
    objective = settings.dual_clip * advantage;
    dobjective = 0.0;
  }
  double loss = -objective;
  double dloss = -dobjective;
  if (ref != nullptr) {
    const double difference = static_cast<double>(*ref) - logprob;
    const double kl = std::exp(difference) - difference - 1.0;
    stats.sum_ref_kl_k3 += kl;
    if (settings.kl_coefficient > 0) {
      loss += settings.kl_coefficient * kl;
      dloss += settings.kl_coefficient * (1.0 - std::exp(difference));
    }
  }
  stats.loss += weight * loss;
  stats.policy_loss -= weight * objective;
  stats.min_ratio = stats.num_tokens == 0 ? ratio : std::min(stats.min_ratio, ratio);
  stats.max_ratio = stats.num_tokens == 0 ? ratio : std::max(stats.max_ratio, ratio);
  stats.sum_ratio += ratio;
  stats.num_clipped_low += advantage < 0 && ratio < low;
  stats.num_clipped_high += advantage > 0 && ratio > high;
  stats.num_dual_clipped += advantage < 0 && ratio > settings.dual_clip;
  stats.sum_kl_k1 -= log_ratio;
  stats.sum_kl_k3 += ratio - 1.0 - log_ratio;
  stats.max_abs_logprob_diff = std::max(stats.max_abs_logprob_diff, std::fabs(log_ratio));
  return weight * dloss;
}

}  // namespace

void token_loss(float* dlogprobs, LossStats& stats, const float* logprobs, const float* row_entropy,
                const Targets& targets, const LossInputs& inputs, const LossSettings& settings) {
  for (int64_t k = 0; k < targets.num_targets; ++k) {
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
}

}  // namespace wideseek::cpu
