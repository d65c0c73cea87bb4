// Inverse-CDF sampling with counter-based uniforms; sums in double in vocabulary order.
#include "infer/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <string>

#include "backend.h"
#include "base/error.h"
#include "base/rng.h"

namespace wideseek {
namespace {

constexpr uint64_t kSamplingStream = 0x73616D706C65;  // keeps draws apart from weight initialisation
constexpr int64_t kChunk = 256;                       // tokens whose weights are summed before the walk looks inside

double draw_uniform(uint64_t seed, uint64_t index) {
  const auto bits = philox_block(seed, kSamplingStream, index);
  return uniform_from_bits(bits[0], bits[1]);
}

void check_finite(const float* logits, int64_t vocab_size) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < vocab_size; ++i) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(logits[i]) & 0x7f800000u) == 0x7f800000u);
  }
  WS_CHECK(bad == 0, kInternal, "sample", "the model gave a logit that is not finite; check the weights");
}

// Index of the first of the largest values.
int32_t argmax(const float* values, int64_t count) {
  // Sixteen running maxima, which compile to vector instructions; std::max_element does not.
  constexpr int64_t kLanes = 16;
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, values[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  const float max = std::max(*std::max_element(lanes, lanes + kLanes),
                             i < count ? *std::max_element(values + i, values + count) : values[0]);
  return static_cast<int32_t>(std::find(values, values + count, max) - values);
}

// Once per distinct token of the history, as Hugging Face's RepetitionPenaltyLogitsProcessor. Returns `logits` or a
// copy.
const float* apply_repetition_penalty(const float* logits, int64_t vocab_size, float penalty, TokenHistory history,
                                      std::vector<float>& penalized) {
  if (penalty == 1) return logits;
  penalized.assign(logits, logits + vocab_size);
  for (int64_t i = 0; i < history.num_tokens; ++i) {
    const int32_t token = history.token_ids[i];
    penalized[token] = logits[token] < 0 ? logits[token] * penalty : logits[token] / penalty;
  }
  return penalized.data();
}

double sum_range(const float* weights, int64_t count) {
  // Eight running sums, so that the additions of one do not wait for each other.
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += weights[i + lane];
  }
  for (; i < count; ++i) sums[i % 8] += weights[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

int32_t draw_unfiltered(const std::vector<float>& weights, double uniform, double* chunk_sums) {
  const int64_t vocab_size = static_cast<int64_t>(weights.size());
  const int64_t num_chunks = (vocab_size + kChunk - 1) / kChunk;
  double total = 0;
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
    const int64_t first = chunk * kChunk;
    chunk_sums[chunk] = sum_range(weights.data() + first, std::min(kChunk, vocab_size - first));
    total += chunk_sums[chunk];
  }
  double target = uniform * total;
  int64_t chunk = 0;
  while (chunk + 1 < num_chunks && target >= chunk_sums[chunk]) target -= chunk_sums[chunk++];
  const int64_t end = std::min((chunk + 1) * kChunk, vocab_size);
  int32_t last = -1;  // rounding may leave a remainder behind the last token that has any weight
  for (int64_t i = chunk * kChunk; i < end; ++i) {
    if (weights[i] == 0) continue;
    last = static_cast<int32_t>(i);
    if (target < weights[i]) return last;
    target -= weights[i];
  }
  if (last >= 0) return last;
  return argmax(weights.data(), vocab_size);
}

// The k-th largest weight.
float kth_largest(const std::vector<float>& weights, int64_t k, std::vector<float>& scratch) {
  scratch = weights;
  const auto kth = scratch.begin() + (k - 1);
  std::nth_element(scratch.begin(), kth, scratch.end(), std::greater<>());
  return *kth;
}

// Keeps the smallest descending prefix of `candidates` with at least top_p of their mass, at least one.
void keep_nucleus(const std::vector<float>& weights, double wanted_mass, std::vector<int32_t>& candidates) {
  // Equal weights in vocabulary order, so that the result does not depend on the sort.
  const auto heavier = [&weights](int32_t a, int32_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  };
  const size_t size = candidates.size();
  double mass = 0;
  size_t num_kept = 0;
  size_t num_sorted = 0;
  while (num_kept < size && (num_kept == 0 || mass < wanted_mass)) {
    if (num_kept == num_sorted) {
      // Sorted piece by piece: the prefix is usually short.
      const auto first = candidates.begin() + static_cast<int64_t>(num_sorted);
      num_sorted = num_sorted > size / 8 ? size : std::min(size, std::max<size_t>(64, num_sorted * 4));
      const auto last = candidates.begin() + static_cast<int64_t>(num_sorted);
      if (last == candidates.end()) {
        std::sort(first, last, heavier);
      } else {
        std::partial_sort(first, last, candidates.end(), heavier);
      }
    }
    mass += weights[candidates[num_kept++]];
  }
  candidates.resize(num_kept);
  std::sort(candidates.begin(), candidates.end());
}

// Leaves the kept tokens in workspace.candidates in vocabulary order; returns the sum of their weights.
double apply_filters(const SamplingSettings& settings, SamplerWorkspace& workspace) {
  const std::vector<float>& weights = workspace.weights;
  std::vector<int32_t>& candidates = workspace.candidates;
  const int64_t vocab_size = static_cast<int64_t>(weights.size());
  const auto mass = [&] {
    double sum = 0;
    for (const int32_t token : candidates) sum += weights[token];
    return sum;
  };
  // Every tie of the k-th value stays.
  const bool has_top_k = settings.top_k > 0 && settings.top_k < vocab_size;
  const float threshold = has_top_k ? kth_largest(weights, settings.top_k, workspace.scratch) : 0;
  candidates.clear();
  for (int64_t token = 0; token < vocab_size; ++token) {
    if (weights[token] >= threshold) candidates.push_back(static_cast<int32_t>(token));
  }
  if (settings.top_p < 1) keep_nucleus(weights, settings.top_p * mass(), candidates);
  if (settings.min_p > 0) {
    // Relative to the likeliest token, which no filter removes.
    const float least = settings.min_p * weights[argmax(weights.data(), vocab_size)];
    std::erase_if(candidates, [&](int32_t token) { return weights[token] < least; });
  }
  return mass();
}

}  // namespace

void validate(const SamplingSettings& settings) {
  WS_CHECK(settings.temperature >= 0 && std::isfinite(settings.temperature), kInvalidArgument, "generate",
           "temperature must be 0 or more, got " + std::to_string(settings.temperature));
  WS_CHECK(settings.top_p > 0 && settings.top_p <= 1, kInvalidArgument, "generate",
           "topP must be above 0 and at most 1, got " + std::to_string(settings.top_p));
  WS_CHECK(settings.top_k >= 0, kInvalidArgument, "generate",
           "topK must be 0 or more, got " + std::to_string(settings.top_k));
  WS_CHECK(settings.min_p >= 0 && settings.min_p <= 1, kInvalidArgument, "generate",
           "minP must be from 0 to 1, got " + std::to_string(settings.min_p));
  WS_CHECK(settings.repetition_penalty > 0 && std::isfinite(settings.repetition_penalty), kInvalidArgument, "generate",
           "repetitionPenalty must be above 0, got " + std::to_string(settings.repetition_penalty));
}

SampledToken sample_token(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, uint64_t seed, uint64_t index, SamplerWorkspace& workspace) {
  check_finite(logits, vocab_size);
  const float* penalized =
      apply_repetition_penalty(logits, vocab_size, settings.repetition_penalty, history, workspace.penalized);
  if (settings.temperature == 0) {
    const int32_t token = argmax(penalized, vocab_size);
    return {token, row_logprob(logits, vocab_size, token, 1)};
  }
  workspace.weights.resize(static_cast<size_t>(vocab_size));
  row_softmax(penalized, vocab_size, settings.temperature, workspace.weights.data());
  const double uniform = draw_uniform(seed, index);
  int32_t token = 0;
  if (settings.has_filters()) {
    const double total = apply_filters(settings, workspace);
    double target = uniform * total;
    for (const int32_t candidate : workspace.candidates) {
      if (workspace.weights[candidate] == 0) continue;
      token = candidate;
      if (target < workspace.weights[candidate]) break;
      target -= workspace.weights[candidate];
    }
  } else {
    std::vector<double>& chunk_sums = workspace.chunk_sums;
    chunk_sums.resize(static_cast<size_t>((vocab_size + kChunk - 1) / kChunk));
    token = draw_unfiltered(workspace.weights, uniform, chunk_sums.data());
  }
  return {token, row_logprob(logits, vocab_size, token, settings.temperature)};
}

void filter_probabilities(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, double* probabilities, SamplerWorkspace& workspace) {
  check_finite(logits, vocab_size);
  logits = apply_repetition_penalty(logits, vocab_size, settings.repetition_penalty, history, workspace.penalized);
  std::fill(probabilities, probabilities + vocab_size, 0.0);
  if (settings.temperature == 0) {
    probabilities[argmax(logits, vocab_size)] = 1;
    return;
  }
  workspace.weights.resize(static_cast<size_t>(vocab_size));
  row_softmax(logits, vocab_size, settings.temperature, workspace.weights.data());
  const double total = apply_filters(settings, workspace);
  for (const int32_t token : workspace.candidates) probabilities[token] = workspace.weights[token] / total;
}

}  // namespace wideseek
