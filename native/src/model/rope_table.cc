// Rotary frequencies: default, and YaRN as in HF modeling_rope_utils.py (_compute_yarn_parameters).
#include "model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace wideseek {

std::vector<double> rope_inv_freq(const ModelConfig& config) {
  const int64_t num_pairs = config.head_dim / 2;
  std::vector<double> inv_freq(static_cast<size_t>(num_pairs));
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    inv_freq[pair] = std::pow(config.rope_theta, -2.0 * pair / config.head_dim);
  }
  if (!config.yarn) return inv_freq;

  // Pairs that turn more than beta_fast times within the original context keep their frequency, those that turn less
  // than beta_slow times are slowed down by `factor`, and a linear ramp over the pair index joins the two.
  const YarnConfig& yarn = *config.yarn;
  const auto pair_with_turns = [&](double turns) {
    return config.head_dim * std::log(yarn.original_max_position_embeddings / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  const double low = std::max(std::floor(pair_with_turns(yarn.beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_with_turns(yarn.beta_slow)), static_cast<double>(config.head_dim - 1));
  if (low == high) high += 0.001;
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const double slowed = std::clamp((pair - low) / (high - low), 0.0, 1.0);
    inv_freq[pair] *= slowed / yarn.factor + (1 - slowed);
  }
  return inv_freq;
}

void fill_rope_table(const ModelConfig& config, int64_t num_positions, float* cos, float* sin) {
  const std::vector<double> inv_freq = rope_inv_freq(config);
  const double scale = config.yarn ? config.yarn->attention_factor : 1.0;
  int64_t at = 0;
  for (int64_t position = 0; position < num_positions; ++position) {
    for (const double frequency : inv_freq) {
      const double angle = static_cast<double>(position) * frequency;
      cos[at] = static_cast<float>(scale * std::cos(angle));
      sin[at] = static_cast<float>(scale * std::sin(angle));
      ++at;
    }
  }
}

}  // namespace wideseek
