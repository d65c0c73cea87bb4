// How one token is drawn from a row of logits: settings, draws and masses that every backend shares, so that the same
// logits give the same token everywhere. Filters and their order are those of Hugging Face's logits processors:
// repetition penalty, temperature, top-k, top-p, min-p.
#pragma once

#include <cstdint>

#include "base/rng.h"

namespace wideseek {

struct SamplingSettings {
  float temperature = 1;         // 0: the first token with the largest logit
  float top_p = 1;               // 1: off
  int64_t top_k = 0;             // 0: off
  float min_p = 0;               // 0: off
  float repetition_penalty = 1;  // 1: off; logits of tokens seen before are divided (if positive) or multiplied by it

  bool has_filters() const { return top_p < 1 || top_k > 0 || min_p > 0; }
};

// Throws kInvalidArgument naming the field.
void validate(const SamplingSettings& settings);

// Tokens seen before: prompt and sampled. Read only if there is a repetition penalty.
struct TokenHistory {
  const int32_t* token_ids;
  int64_t num_tokens;
};

// One row to draw from. The draw depends only on the logits, the settings, the history, `seed` and `index`, the number
// of tokens that the request has sampled before.
struct SampleRequest {
  SamplingSettings settings;
  TokenHistory history;
  uint64_t seed;
  uint64_t index;
};

struct SampledToken {
  int32_t token_id;  // kNotFinite: a logit of the row was not finite
  float logprob;     // ln p under the unfiltered distribution at the temperature (temperature 0: at 1)

  static constexpr int32_t kNotFinite = -1;
};

// The random number of a draw.
inline uint64_t draw_bits(uint64_t seed, uint64_t index) {
  constexpr uint64_t kSamplingStream = 0x73616D706C65;  // keeps draws apart from weight initialisation
  const auto bits = philox_block(seed, kSamplingStream, index);
  return uint64_t{bits[0]} << 32 | bits[1];
}

// A probability as a whole number of 2^-48. Sums of such numbers are exact, in integers and below 2^53 in doubles, so
// a draw and a nucleus do not depend on the order of summation: on how many threads of which device share a row.
// Probabilities below 2^-49 are never drawn.
constexpr double kMassScale = 0x1p48;
inline double exact_mass(float probability) {
  constexpr double kToNearest = 0x1.8p52;
  return (static_cast<double>(probability) * kMassScale + kToNearest) - kToNearest;
}

// floor(total * bits / 2^64): what the masses before the drawn token sum up to, at most.
inline uint64_t draw_target(uint64_t bits, uint64_t total) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bits) * total >> 64);
}

}  // namespace wideseek
