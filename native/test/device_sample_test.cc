// Sampling on the device against the CPU backend: where the logits are equal, every token and log-probability is, to
// the bit.
#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "device.h"

namespace {

using namespace wideseek;

struct Case {
  std::vector<float> logits;  // [R,V]
  std::vector<SampleRequest> requests;
  int64_t V;
};

std::vector<SampledToken> sample(Backend& backend, const Case& rows) {
  DeviceArray<float> logits(backend, static_cast<int64_t>(rows.logits.size()));
  backend.upload(logits.get(), rows.logits.data(), logits.bytes());
  std::vector<SampledToken> tokens(rows.requests.size());
  backend.sample(tokens.data(), logits.get(), rows.requests.data(), static_cast<int64_t>(tokens.size()), rows.V);
  return tokens;
}

void check_equal(const Case& rows) {
  const std::vector<SampledToken> want = sample(*create_backend("cpu", device::cpu_threads()), rows);
  const auto [got, again] = device::twice([&] { return sample(*device::create(DType::kFloat32), rows); });
  for (size_t r = 0; r < want.size(); ++r) {
    CHECK(got[r].token_id == want[r].token_id && got[r].logprob == want[r].logprob);
    CHECK(got[r].token_id == again[r].token_id && got[r].logprob == again[r].logprob);
  }
}

// Rows with the given settings in turn; `levels` > 0: only that many different logits, so that many are equal.
Case random_rows(uint64_t seed, int64_t R, int64_t V, double scale, int levels,
                 const std::vector<SamplingSettings>& settings, const std::vector<int32_t>& history) {
  Case rows{std::vector<float>(static_cast<size_t>(R * V)), {}, V};
  for (size_t i = 0; i < rows.logits.size(); ++i) {
    const double normal = philox_normal(seed, 1, i);
    rows.logits[i] = static_cast<float>(levels > 0 ? std::round(normal * levels) / levels : normal * scale);
  }
  for (int64_t r = 0; r < R; ++r) {
    rows.requests.push_back({settings[static_cast<size_t>(r) % settings.size()],
                             {history.data(), static_cast<int64_t>(history.size())},
                             seed,
                             static_cast<uint64_t>(r)});
  }
  return rows;
}

const std::vector<SamplingSettings> kSettings{
    {},
    {.temperature = 0},
    {.temperature = 0.6f, .top_p = 0.95f, .top_k = 20},
    {.top_p = 0.3f},
    {.top_p = 0.999f},
    {.top_k = 1},
    {.top_k = 50},
    {.temperature = 1.5f, .min_p = 0.1f},
    {.temperature = 0.7f, .top_p = 0.8f, .top_k = 40, .min_p = 0.05f},
    {.top_p = 1e-6f},
    {.top_k = 1000000},
};

}  // namespace

TEST(device_sample_equals_the_cpu) {
  for (const int64_t V : {int64_t{1}, int64_t{31}, int64_t{700}, int64_t{9001}}) {
    check_equal(random_rows(1, 22, V, 1, 0, kSettings, {}));
    check_equal(random_rows(2, 22, V, 6, 0, kSettings, {}));
    check_equal(random_rows(3, 22, V, 1, 2, kSettings, {}));  // ties at every threshold
  }
}

DEVICE_TEST(device_sample_equals_the_cpu_at_the_size_of_real_vocabularies) {
  check_equal(random_rows(8, 110, 151936, 3, 0, kSettings, {}));
  check_equal(random_rows(9, 22, 151936, 1, 2, kSettings, {}));
}

TEST(device_sample_draws_alike_many_times) {
  check_equal(random_rows(4, 300, 523, 1.5, 0, {{}, {.top_p = 0.9f}}, {}));
  check_equal(random_rows(5, 100, 523, 1, 1, {{.top_p = 0.5f}}, {}));
}

TEST(device_sample_with_repetition_penalty_equals_the_cpu) {
  const std::vector<int32_t> history{3, 4, 3, 3, 499, 17};
  std::vector<SamplingSettings> settings = kSettings;
  for (size_t i = 0; i < settings.size(); i += 2) settings[i].repetition_penalty = i % 4 == 0 ? 1.3f : 0.7f;
  check_equal(random_rows(6, 22, 500, 2, 0, settings, history));
}

TEST(device_sample_survives_all_the_mass_on_one_token_and_reports_what_is_not_finite) {
  Case rows = random_rows(7, 11, 300, 1, 0, kSettings, {});
  for (int64_t r = 0; r < 11; ++r) rows.logits[static_cast<size_t>(r * 300 + (r * 37) % 300)] = 500;
  check_equal(rows);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (size_t i = 0; i < 3; ++i) rows.logits[(2 * i + 1) * 300 + 299 * (i % 2)] = bad[i];
  check_equal(rows);
  const std::vector<SampledToken> tokens = sample(*device::create(DType::kFloat32), rows);
  for (size_t r = 0; r < tokens.size(); ++r)
    CHECK((tokens[r].token_id == SampledToken::kNotFinite) == (r < 6 && r % 2 == 1));
}
