// Inverse-CDF sampling in vocabulary order. Masses are whole numbers (base/sampling.h), so their sums are exact.
#include "cpu/sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "base/sampling.h"

namespace wideseek {
namespace cpu {
namespace {

constexpr int64_t kChunk = 256;  // tokens whose masses are summed before the walk looks inside

bool all_finite(const float* logits, int64_t vocab_size) {
  uint32_t bad = 0;
  for (int64_t i = 0; i < vocab_size; ++i) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(logits[i]) & 0x7f800000u) == 0x7f800000u);
  }
  return bad == 0;
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

double sum_masses(const float* weights, int64_t count) {
  // Eight running sums, so that the additions of one do not wait for each other.
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += exact_mass(weights[i + lane]);
  }
  for (; i < count; ++i) sums[0] += exact_mass(weights[i]);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// The first token with which the masses sum up to more than the target of the draw.
int32_t draw_unfiltered(const std::vector<float>& weights, uint64_t bits, double* chunk_sums) {
  const int64_t vocab_size = static_cast<int64_t>(weights.size());
  const int64_t num_chunks = (vocab_size + kChunk - 1) / kChunk;
  double total = 0;
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
    const int64_t first = chunk * kChunk;
    chunk_sums[chunk] = sum_masses(weights.data() + first, std::min(kChunk, vocab_size - first));
    total += chunk_sums[chunk];
  }
  auto target = static_cast<double>(draw_target(bits, static_cast<uint64_t>(total)));
  int64_t chunk = 0;
  while (target >= chunk_sums[chunk]) target -= chunk_sums[chunk++];  // target < total
  int64_t token = chunk * kChunk;
  for (; target >= exact_mass(weights[token]); ++token) target -= exact_mass(weights[token]);
  return static_cast<int32_t>(token);
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
    mass += exact_mass(weights[candidates[num_kept++]]);
  }
  candidates.resize(num_kept);
  std::sort(candidates.begin(), candidates.end());
}

// Leaves the kept tokens in workspace.candidates in vocabulary order; returns the sum of their masses.
double apply_filters(const SamplingSettings& settings, SampleWorkspace& workspace) {
  const std::vector<float>& weights = workspace.weights;
  std::vector<int32_t>& candidates = workspace.candidates;
  const int64_t vocab_size = static_cast<int64_t>(weights.size());
  const auto mass = [&] {
    double sum = 0;
    for (const int32_t token : candidates) sum += exact_mass(weights[token]);
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

SampledToken sample_row(const float* logits, int64_t vocab_size, const SampleRequest& request,
                        SampleWorkspace& workspace) {
  if (!all_finite(logits, vocab_size)) return {SampledToken::kNotFinite, 0};
  const SamplingSettings& settings = request.settings;
  const float* penalized =
      apply_repetition_penalty(logits, vocab_size, settings.repetition_penalty, request.history, workspace.penalized);
  if (settings.temperature == 0) {
    const int32_t token = argmax(penalized, vocab_size);
    return {token, row_logprob(logits, vocab_size, token, 1)};
  }
  workspace.weights.resize(static_cast<size_t>(vocab_size));
  row_softmax(penalized, vocab_size, settings.temperature, workspace.weights.data());
  const uint64_t bits = draw_bits(request.seed, request.index);
  int32_t token = 0;
  if (settings.has_filters()) {
    const double total = apply_filters(settings, workspace);
    auto target = static_cast<double>(draw_target(bits, static_cast<uint64_t>(total)));
    for (const int32_t candidate : workspace.candidates) {
      token = candidate;
      if (target < exact_mass(workspace.weights[candidate])) break;
      target -= exact_mass(workspace.weights[candidate]);
    }
  } else {
    workspace.chunk_sums.resize(static_cast<size_t>((vocab_size + kChunk - 1) / kChunk));
    token = draw_unfiltered(workspace.weights, bits, workspace.chunk_sums.data());
  }
  return {token, row_logprob(logits, vocab_size, token, settings.temperature)};
}

}  // namespace

void sample(ThreadPool& pool, std::vector<SampleWorkspace>& workspaces, SampledToken* tokens, const float* logits,
            const SampleRequest* requests, int64_t R, int64_t V) {
  workspaces.resize(static_cast<size_t>(pool.size()));
  pool.parallel_for(R, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r) {
      tokens[r] = sample_row(logits + r * V, V, requests[r], workspaces[static_cast<size_t>(thread)]);
    }
  });
}

}  // namespace cpu

void filter_probabilities(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, double* probabilities) {
  cpu::SampleWorkspace workspace;
  logits = cpu::apply_repetition_penalty(logits, vocab_size, settings.repetition_penalty, history, workspace.penalized);
  std::fill(probabilities, probabilities + vocab_size, 0.0);
  if (settings.temperature == 0) {
    probabilities[cpu::argmax(logits, vocab_size)] = 1;
    return;
  }
  workspace.weights.resize(static_cast<size_t>(vocab_size));
  row_softmax(logits, vocab_size, settings.temperature, workspace.weights.data());
  const double total = cpu::apply_filters(settings, workspace);
  for (const int32_t token : workspace.candidates) probabilities[token] = exact_mass(workspace.weights[token]) / total;
}

}  // namespace wideseek
