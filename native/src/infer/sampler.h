// Draws one token from a row of logits. Filters and their order are those of Hugging Face's logits processors:
// repetition penalty, temperature, top-k, top-p, min-p. Owns nothing; every call is a pure function of its arguments.
#pragma once

#include <cstdint>
#include <vector>

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

struct SampledToken {
  int32_t token_id;
  float logprob;  // ln p under the unfiltered distribution at the temperature (temperature 0: at 1)
};

// Scratch of one thread, reused between rows.
struct SamplerWorkspace {
  std::vector<float> penalized;     // logits after the repetition penalty
  std::vector<float> weights;       // softmax at the temperature, before the filters
  std::vector<double> chunk_sums;   // of runs of weights
  std::vector<float> scratch;       // weights in another order
  std::vector<int32_t> candidates;  // tokens that the filters keep
};

// Tokens seen before: prompt and sampled. Read only if there is a repetition penalty.
struct TokenHistory {
  const int32_t* token_ids;
  int64_t num_tokens;
};

// logits [vocab_size]. The draw depends only on the logits, the settings, the history, `seed` and `index`, the number
// of tokens that the request has sampled before. Throws kInternal if a logit is not finite.
SampledToken sample_token(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, uint64_t seed, uint64_t index, SamplerWorkspace& workspace);

// The distribution that sample_token draws from. probabilities [vocab_size] overwritten, 0 where filtered out.
void filter_probabilities(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, double* probabilities, SamplerWorkspace& workspace);

}  // namespace wideseek
