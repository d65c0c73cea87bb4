// The sampler: its distribution, its reproducibility, its edge cases.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend.h"
#include "base/rng.h"
#include "test/check.h"

namespace {

using namespace wideseek;

constexpr int64_t kVocab = 700;  // more than two chunks of the walk

SampledToken draw(const std::vector<float>& logits, const SamplingSettings& settings, uint64_t seed, uint64_t index) {
  static const auto backend = create_backend("cpu", 1);
  const SampleRequest request{settings, {nullptr, 0}, seed, index};
  SampledToken token{};
  backend->sample(&token, logits.data(), &request, 1, static_cast<int64_t>(logits.size()));
  return token;
}

std::vector<float> random_logits(uint64_t seed, double scale) {
  std::vector<float> logits(kVocab);
  for (int64_t i = 0; i < kVocab; ++i) logits[i] = static_cast<float>(scale * philox_normal(seed, 0, i));
  return logits;
}

// Draws many tokens and compares with the distribution by Pearson's statistic over the likelier tokens.
void check_frequencies(const std::vector<float>& logits, const SamplingSettings& settings) {
  std::vector<double> probabilities(kVocab);
  filter_probabilities(logits.data(), kVocab, settings, {nullptr, 0}, probabilities.data());
  constexpr int64_t kDraws = 10000;
  std::vector<int64_t> counts(kVocab);
  for (int64_t index = 0; index < kDraws; ++index) {
    const SampledToken token = draw(logits, settings, 99, static_cast<uint64_t>(index));
    ++counts[token.token_id];
  }
  double statistic = 0, rest = 0;
  int64_t rest_count = 0, cells = 0;
  for (int64_t i = 0; i < kVocab; ++i) {
    if (probabilities[i] == 0) CHECK(counts[i] == 0);
    const double expected = probabilities[i] * kDraws;
    if (expected < 10) {
      rest += expected;
      rest_count += counts[i];
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++cells;
  }
  if (rest >= 10) {
    statistic += (rest_count - rest) * (rest_count - rest) / rest;
    ++cells;
  }
  // Mean cells - 1, standard deviation sqrt(2 (cells - 1)); the draws are fixed, so this never flickers.
  CHECK(std::fabs(statistic - (cells - 1)) < 4 * std::sqrt(2.0 * cells) + 1);
}

}  // namespace

TEST(sampler_draws_from_the_distribution) {
  for (const double scale : {0.1, 1.0, 4.0}) {
    const std::vector<float> logits = random_logits(1, scale);
    check_frequencies(logits, {});
    check_frequencies(logits, {.temperature = 0.6f});
    check_frequencies(logits, {.temperature = 1.4f, .top_p = 0.7f});
    check_frequencies(logits, {.top_k = 20});
    check_frequencies(logits, {.temperature = 0.7f, .top_p = 0.9f, .top_k = 50, .min_p = 0.02f});
  }
}

TEST(sampler_depends_on_seed_and_index_alone) {
  const std::vector<float> logits = random_logits(2, 1);
  int num_equal = 0;
  for (uint64_t index = 0; index < 200; ++index) {
    const SampledToken a = draw(logits, {}, 5, index);
    const SampledToken b = draw(logits, {}, 5, index);
    const SampledToken c = draw(logits, {}, 6, index);
    CHECK(a.token_id == b.token_id && a.logprob == b.logprob);
    num_equal += a.token_id == c.token_id;
  }
  CHECK(num_equal < 20);
}

TEST(sampler_logprob_is_of_the_whole_distribution) {
  const std::vector<float> logits = random_logits(3, 2);
  const SamplingSettings settings{.temperature = 0.8f, .top_p = 0.3f, .top_k = 5};
  const SampledToken token = draw(logits, settings, 1, 0);
  CHECK(token.logprob == row_logprob(logits.data(), kVocab, token.token_id, 0.8f));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit / 0.8);
  CHECK_NEAR(token.logprob, logits[token.token_id] / 0.8 - std::log(sum), 1e-5);
}

TEST(sampler_greedy_takes_the_first_of_equal_logits) {
  std::vector<float> logits(kVocab, -1);
  logits[300] = logits[17] = 3;
  const SamplingSettings settings{.temperature = 0};
  const SampledToken token = draw(logits, settings, 1, 0);
  CHECK(token.token_id == 17);
  CHECK(token.logprob == row_logprob(logits.data(), kVocab, 17, 1));
}

TEST(sampler_repetition_penalty_counts_a_token_once) {
  std::vector<float> logits = random_logits(4, 1);
  logits[3] = 2;
  logits[4] = -2;
  const std::vector<int32_t> history = {3, 4, 3, 3};
  std::vector<double> actual(kVocab), expected(kVocab);
  filter_probabilities(logits.data(), kVocab, {.repetition_penalty = 1.5f}, {history.data(), 4}, actual.data());
  logits[3] /= 1.5f;
  logits[4] *= 1.5f;
  filter_probabilities(logits.data(), kVocab, {}, {nullptr, 0}, expected.data());
  CHECK(actual == expected);
}

TEST(sampler_survives_one_token_with_all_the_mass) {
  std::vector<float> logits(kVocab, -1000);
  logits[kVocab - 1] = 1000;
  for (uint64_t index = 0; index < 100; ++index) {
    CHECK(draw(logits, {}, 1, index).token_id == kVocab - 1);
    CHECK(draw(logits, {.top_p = 0.999f}, 1, index).token_id == kVocab - 1);
  }
}

TEST(sampler_refuses_logits_that_are_not_finite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const int64_t where : {int64_t{0}, kVocab / 2, kVocab - 1}) {
      std::vector<float> logits = random_logits(5, 1);
      logits[where] = bad;
      CHECK(draw(logits, {}, 1, 0).token_id == SampledToken::kNotFinite);
      CHECK(draw(logits, {.temperature = 0}, 1, 0).token_id == SampledToken::kNotFinite);
    }
  }
}

TEST(sampler_checks_settings) {
  validate(SamplingSettings{});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS(validate(SamplingSettings{.temperature = -1}));
  CHECK_THROWS(validate(SamplingSettings{.temperature = nan}));
  CHECK_THROWS(validate(SamplingSettings{.top_p = 0}));
  CHECK_THROWS(validate(SamplingSettings{.top_p = 1.1f}));
  CHECK_THROWS(validate(SamplingSettings{.top_k = -1}));
  CHECK_THROWS(validate(SamplingSettings{.min_p = nan}));
  CHECK_THROWS(validate(SamplingSettings{.repetition_penalty = 0}));
}
