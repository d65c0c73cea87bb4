// Top-k selection and the counting sort of rows by expert.
#include "model/router.h"

#include <algorithm>

#include "backend.h"

namespace wideseek {
namespace {

// chosen [k] = indices of the k largest of logits [E], ascending. They are k different ones also if a logit is NaN.
void choose_experts(const float* logits, int64_t E, int64_t k, int32_t* chosen) {
  int64_t count = 0;
  for (int64_t e = 0; e < E; ++e) {
    if (count == k && !(logits[e] > logits[chosen[k - 1]])) continue;
    int64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && logits[e] > logits[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = static_cast<int32_t>(e);
  }
  std::sort(chosen, chosen + k);
}

}  // namespace

Routing route(const float* logits, int64_t T, const MoeConfig& moe) {
  const int64_t E = moe.num_experts, k = moe.experts_per_token;
  Routing routing;
  routing.first_rows.assign(static_cast<size_t>(E + 1), 0);
  routing.shares.resize(static_cast<size_t>(T * k));
  std::vector<int32_t> experts(static_cast<size_t>(T * k));
  std::vector<float> probabilities(static_cast<size_t>(E));
  for (int64_t t = 0; t < T; ++t) {
    int32_t* chosen = experts.data() + t * k;
    float* shares = routing.shares.data() + t * k;
    choose_experts(logits + t * E, E, k, chosen);
    row_softmax(logits + t * E, E, 1.0f, probabilities.data());
    float total = 0;
    for (int64_t j = 0; j < k; ++j) {
      shares[j] = probabilities[chosen[j]];
      total += shares[j];
      ++routing.first_rows[chosen[j] + 1];
    }
    if (!moe.normalize_shares) continue;
    for (int64_t j = 0; j < k; ++j) shares[j] /= total;
  }
  for (int64_t e = 0; e < E; ++e) routing.first_rows[e + 1] += routing.first_rows[e];

  routing.row_tokens.resize(experts.size());
  routing.token_rows.resize(experts.size());
  std::vector<int64_t> next(routing.first_rows.begin(), routing.first_rows.end() - 1);
  for (size_t i = 0; i < experts.size(); ++i) {
    const int64_t row = next[experts[i]]++;
    routing.row_tokens[row] = static_cast<int32_t>(static_cast<int64_t>(i) / k);
    routing.token_rows[i] = static_cast<int32_t>(row);
  }
  return routing;
}

}  // namespace wideseek
