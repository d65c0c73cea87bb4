// Cosines and sines of the rotary embedding, per position; plain and YaRN.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace wideseek {

// Angular frequency of each of the head_dim/2 pairs, in double.
std::vector<double> rope_inv_freq(const ModelConfig& config);

// cos and sin [num_positions, head_dim/2], already times YaRN's attention factor.
void fill_rope_table(const ModelConfig& config, int64_t num_positions, float* cos, float* sin);

}  // namespace wideseek
