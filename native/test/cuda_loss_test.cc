// Log-probabilities, token losses and the optimizer of the CUDA backend under emulation: what is fp32 equals the CPU
// backend to the bit, in both thread orders.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "check.h"
#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"
#include "cuda/adamw.h"
#include "cuda/emulation/emulation.h"
#include "cuda/logprob.h"
#include "cuda/token_loss.h"

namespace {

using namespace wideseek;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename F>
void in_both_orders(F&& body) {
  for (const auto order : {emulation::ThreadOrder::kFirstToLast, emulation::ThreadOrder::kLastToFirst}) {
    emulation::set_thread_order(order);
    body();
  }
  emulation::set_thread_order(emulation::ThreadOrder::kFirstToLast);
}

// Aligned as device memory is.
template <typename T>
class Array {
 public:
  explicit Array(int64_t count) : storage_(static_cast<size_t>(count) + 64 / sizeof(T)), count_(count) {}
  explicit Array(const std::vector<T>& values) : Array(static_cast<int64_t>(values.size())) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(storage_.data()) + 63) & ~uintptr_t{63}); }
  T& operator[](int64_t i) { return data()[i]; }
  std::vector<T> copy() { return {data(), data() + count_}; }

 private:
  std::vector<T> storage_;
  int64_t count_;
};

std::vector<float> normals(uint64_t stream, int64_t count, float scale = 1) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[i] = scale * static_cast<float>(philox_normal(11, stream, i));
  return values;
}

std::vector<uint16_t> rounded(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (const float value : values) halves.push_back(float_to_bf16(value));
  return halves;
}

std::vector<float> widened(const std::vector<uint16_t>& halves) {
  std::vector<float> values;
  for (const uint16_t half : halves) values.push_back(bf16_to_float(half));
  return values;
}

// ---- log-probabilities

// Logits of rows with none, one or several targets, and two targets that name one token.
struct LogprobCase {
  int64_t R, V;
  std::vector<float> logits;
  std::vector<int32_t> rows, tokens;
  std::vector<float> dlogprobs;
  float temperature;

  LogprobCase(int64_t R_, int64_t V_, float temperature_)
      : R(R_), V(V_), logits(normals(1, R_ * V_, 4)), temperature(temperature_) {
    for (int64_t r = 0; r < R; ++r) {
      if (r % 5 == 3) continue;
      const int64_t count = r % 3 == 1 ? 4 : 1;
      for (int64_t k = 0; k < count; ++k) {
        rows.push_back(static_cast<int32_t>(r));
        tokens.push_back(static_cast<int32_t>(k == 3 ? r % V : (r * 31 + k * 17) % V));
      }
      if (count == 4) tokens[tokens.size() - 2] = tokens.back();
    }
    if (V > 3) {
      logits[0] = -kInfinity;                       // a token that cannot come
      logits[static_cast<size_t>(R - 1) * V] = 80;  // a row that is certain
      tokens.back() = 0;
    }
    dlogprobs = normals(2, static_cast<int64_t>(rows.size()));
  }
  Targets targets() const { return {static_cast<int64_t>(rows.size()), rows.data(), tokens.data()}; }
};

struct LogprobResult {
  std::vector<float> logprobs, row_max, row_log_sum, row_entropy;
  explicit LogprobResult(const LogprobCase& c)
      : logprobs(c.rows.size()), row_max(static_cast<size_t>(c.R)), row_log_sum(row_max), row_entropy(row_max) {}
};

LogprobResult cpu_logprobs(ThreadPool& pool, const LogprobCase& c) {
  LogprobResult result(c);
  cpu::logprob_forward(pool, result.logprobs.data(), result.row_max.data(), result.row_log_sum.data(),
                       result.row_entropy.data(), c.logits.data(), c.targets(), c.R, c.V, c.temperature);
  return result;
}

// Around the 512 elements of a batch, the 64 of the four accumulators and the 16 of a vector.
const std::vector<LogprobCase>& logprob_cases() {
  static const std::vector<LogprobCase> cases = [] {
    std::vector<LogprobCase> all;
    for (const int64_t V : {1, 15, 64, 100, 511, 512, 515, 1100, 5003, 8300}) all.emplace_back(9, V, 0.7f);
    all.emplace_back(1, 300, 1.0f);
    return all;
  }();
  return cases;
}

EMULATION_TEST(cuda_logprob_forward_equals_the_cpu) {
  ThreadPool pool(1);
  for (const LogprobCase& c : logprob_cases()) {
    const LogprobResult expected = cpu_logprobs(pool, c);
    Array<float> logits(c.logits);
    in_both_orders([&] {
      LogprobResult result(c);
      std::vector<float> scratch(static_cast<size_t>(cuda::logprob_forward_scratch(c.R)), NAN);
      cuda::logprob_forward({}, result.logprobs.data(), result.row_max.data(), result.row_log_sum.data(),
                            result.row_entropy.data(), logits.data(), c.targets(), c.R, c.V, c.temperature,
                            scratch.data());
      CHECK(result.row_max == expected.row_max);
      CHECK(result.row_log_sum == expected.row_log_sum);
      CHECK(result.row_entropy == expected.row_entropy);
      CHECK(result.logprobs == expected.logprobs);
      for (size_t k = 0; k < c.rows.size(); ++k) {
        CHECK(result.logprobs[k] == row_logprob(c.logits.data() + c.rows[k] * c.V, c.V, c.tokens[k], c.temperature));
      }
    });
  }
}

EMULATION_TEST(cuda_logprob_of_no_rows_and_of_bad_rows) {
  cuda::logprob_forward({}, nullptr, nullptr, nullptr, nullptr, nullptr, {0, nullptr, nullptr}, 0, 100, 1, nullptr);
  cuda::logprob_backward({}, static_cast<float*>(nullptr), nullptr, nullptr, nullptr, nullptr, {0, nullptr, nullptr}, 0,
                         100, 1, nullptr);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    LogprobCase c(3, 700, 1);
    c.logits[700 + 650] = bad;
    LogprobResult result(c);
    std::vector<float> scratch(static_cast<size_t>(cuda::logprob_forward_scratch(c.R)));
    cuda::logprob_forward({}, result.logprobs.data(), result.row_max.data(), result.row_log_sum.data(),
                          result.row_entropy.data(), c.logits.data(), c.targets(), c.R, c.V, c.temperature,
                          scratch.data());
    for (size_t k = 0; k < c.rows.size(); ++k) CHECK(std::isnan(result.logprobs[k]) == (c.rows[k] == 1));
  }
}

EMULATION_TEST(cuda_logprob_backward_equals_the_cpu) {
  ThreadPool pool(1);
  for (const LogprobCase& c : logprob_cases()) {
    const LogprobResult forward = cpu_logprobs(pool, c);
    std::vector<float> expected(c.logits.size());
    cpu::logprob_backward(pool, expected.data(), c.logits.data(), c.dlogprobs.data(), forward.row_max.data(),
                          forward.row_log_sum.data(), c.targets(), c.R, c.V, c.temperature);
    const auto backward = [&](TypedPointer dlogits, const float* logits) {
      std::vector<float> scratch(static_cast<size_t>(cuda::logprob_backward_scratch(c.R)), NAN);
      cuda::logprob_backward({}, dlogits, logits, c.dlogprobs.data(), forward.row_max.data(),
                             forward.row_log_sum.data(), c.targets(), c.R, c.V, c.temperature, scratch.data());
    };
    in_both_orders([&] {
      Array<float> logits(c.logits), dlogits(static_cast<int64_t>(c.logits.size()));
      Array<uint16_t> halves(static_cast<int64_t>(c.logits.size()));
      backward(dlogits.data(), logits.data());
      CHECK(dlogits.copy() == expected);
      backward({halves.data(), DType::kBFloat16}, logits.data());
      CHECK(logits.copy() == c.logits);
      CHECK(halves.copy() == rounded(expected));
      backward(logits.data(), logits.data());
      CHECK(logits.copy() == expected);
    });
  }
}

double logprob_in_double(const LogprobCase& c, const std::vector<double>& logits, size_t k) {
  const double* row = logits.data() + c.rows[k] * c.V;
  double sum = 0;
  for (int64_t j = 0; j < c.V; ++j) sum += std::exp(row[j] / c.temperature);
  return row[c.tokens[k]] / c.temperature - std::log(sum);
}

EMULATION_TEST(cuda_logprob_gradient_in_double) {
  ThreadPool pool(1);
  LogprobCase c(7, 37, 1.3f);
  c.logits[0] = 0.5f;
  const LogprobResult forward = cpu_logprobs(pool, c);
  Array<float> dlogits(c.logits);
  std::vector<float> scratch(static_cast<size_t>(cuda::logprob_backward_scratch(c.R)));
  cuda::logprob_backward({}, dlogits.data(), dlogits.data(), c.dlogprobs.data(), forward.row_max.data(),
                         forward.row_log_sum.data(), c.targets(), c.R, c.V, c.temperature, scratch.data());
  std::vector<double> logits(c.logits.begin(), c.logits.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto loss_at = [&](double value) {
      const double before = std::exchange(logits[i], value);
      double loss = 0;
      for (size_t k = 0; k < c.rows.size(); ++k) loss += c.dlogprobs[k] * logprob_in_double(c, logits, k);
      logits[i] = before;
      return loss;
    };
    constexpr double kStep = 1e-5;
    const double numeric = (loss_at(logits[i] + kStep) - loss_at(logits[i] - kStep)) / (2 * kStep);
    CHECK_NEAR(dlogits[static_cast<int64_t>(i)], numeric, 1e-6);
  }
}

// ---- token loss

struct LossCase {
  std::vector<float> logprobs, entropies, weights, advantages, behavior, ref;
  std::vector<int32_t> rows;

  explicit LossCase(int64_t count)
      : logprobs(normals(20, count)),
        entropies(normals(21, count / 2 + 1)),
        weights(normals(22, count)),
        advantages(normals(23, count)),
        behavior(normals(24, count, 0.3f)),
        ref(normals(25, count, 0.3f)) {
    for (int64_t k = 0; k < count; ++k) {
      rows.push_back(static_cast<int32_t>(k / 2));
      behavior[k] += logprobs[k];
      ref[k] += logprobs[k];
      weights[k] = std::fabs(weights[k]) + 0.01f;
    }
  }
  Targets targets() const { return {static_cast<int64_t>(rows.size()), rows.data(), nullptr}; }
};

void check_stats(const LossStats& stats, const LossStats& expected, double tolerance) {
  CHECK(stats.num_tokens == expected.num_tokens);
  CHECK(stats.num_clipped_low == expected.num_clipped_low);
  CHECK(stats.num_clipped_high == expected.num_clipped_high);
  CHECK(stats.num_dual_clipped == expected.num_dual_clipped);
  CHECK(stats.min_ratio == expected.min_ratio);
  CHECK(stats.max_ratio == expected.max_ratio);
  CHECK(stats.max_abs_logprob_diff == expected.max_abs_logprob_diff);
  CHECK_NEAR(stats.loss, expected.loss, tolerance);
  CHECK_NEAR(stats.policy_loss, expected.policy_loss, tolerance);
  CHECK_NEAR(stats.sum_ratio, expected.sum_ratio, tolerance);
  CHECK_NEAR(stats.sum_kl_k1, expected.sum_kl_k1, tolerance);
  CHECK_NEAR(stats.sum_kl_k3, expected.sum_kl_k3, tolerance);
  CHECK_NEAR(stats.sum_ref_kl_k3, expected.sum_ref_kl_k3, tolerance);
  CHECK_NEAR(stats.sum_entropy, expected.sum_entropy, tolerance);
  CHECK_NEAR(stats.sum_nll, expected.sum_nll, tolerance);
}

void check_token_loss(int64_t count, const LossSettings& settings, bool with_ref) {
  const LossCase c(count);
  const LossInputs inputs{c.weights.data(), c.advantages.data(), c.behavior.data(), with_ref ? c.ref.data() : nullptr};
  std::vector<float> expected(c.logprobs.size());
  LossStats stats_expected{};
  cpu::token_loss(expected.data(), stats_expected, c.logprobs.data(), c.entropies.data(), c.targets(), inputs,
                  settings);
  in_both_orders([&] {
    std::vector<float> dlogprobs(c.logprobs.size());
    LossStats stats{};
    cuda::token_loss({}, dlogprobs.data(), &stats, c.logprobs.data(), c.entropies.data(), c.targets(), inputs,
                     settings);
    CHECK(dlogprobs == expected);
    check_stats(stats, stats_expected, 1e-9);
  });
}

EMULATION_TEST(cuda_token_loss_equals_the_cpu) {
  for (const int64_t count : {0, 1, 5, 255, 256, 257, 1500}) {
    check_token_loss(count, {LossKind::kNll, 1, 0, 0, kInfinity, 0}, false);
    check_token_loss(count, {LossKind::kGrpo, 1, 0.2f, 0.28f, 1.5f, 0.1f}, true);
    check_token_loss(count, {LossKind::kGrpo, 1, 0.2f, 0.28f, kInfinity, 0}, true);
    check_token_loss(count, {LossKind::kGrpo, 1, 0.1f, 0.1f, 3, 0}, false);
  }
}

EMULATION_TEST(cuda_token_loss_stats_add_up_over_chunks) {
  const LossCase c(300);
  const LossSettings settings{LossKind::kGrpo, 1, 0.2f, 0.28f, 1.5f, 0.1f};
  std::vector<float> dlogprobs(c.logprobs.size());
  LossStats expected{}, stats{};
  cpu::token_loss(dlogprobs.data(), expected, c.logprobs.data(), c.entropies.data(), c.targets(),
                  {c.weights.data(), c.advantages.data(), c.behavior.data(), c.ref.data()}, settings);
  for (const auto& [first, end] : {std::pair{0, 0}, {0, 131}, {131, 131}, {131, 300}}) {
    cuda::token_loss(
        {}, dlogprobs.data() + first, &stats, c.logprobs.data() + first, c.entropies.data(),
        {end - first, c.rows.data() + first, nullptr},
        {c.weights.data() + first, c.advantages.data() + first, c.behavior.data() + first, c.ref.data() + first},
        settings);
  }
  check_stats(stats, expected, 1e-9);
}

// ---- optimizer

EMULATION_TEST(cuda_sum_squares_in_double) {
  for (const int64_t count : {0, 1, 7, 2048, 5001, 70000, 2400003}) {  // the last: threads go round more than once
    std::vector<float> values = normals(30, std::min<int64_t>(count, 70000));
    while (static_cast<int64_t>(values.size()) < count) values.push_back(values[values.size() % 69997]);
    Array<float> device(values);
    Array<uint16_t> halves(rounded(values));
    double expected = 0, expected_of_halves = 0;
    for (const float value : values) expected += double{value} * value;
    for (const float value : widened(rounded(values))) expected_of_halves += double{value} * value;
    std::vector<double> results, results_of_halves;
    in_both_orders([&] {
      std::vector<double> scratch(static_cast<size_t>(cuda::sum_squares_scratch() + 1) / 2, NAN);
      double result = NAN;
      cuda::sum_squares({}, &result, device.data(), count, reinterpret_cast<float*>(scratch.data()));
      CHECK_NEAR(result, expected, 1e-12 * expected);
      results.push_back(result);
      cuda::sum_squares({}, &result, {halves.data(), DType::kBFloat16}, count,
                        reinterpret_cast<float*>(scratch.data()));
      CHECK_NEAR(result, expected_of_halves, 1e-12 * expected_of_halves);
      results_of_halves.push_back(result);
    });
    CHECK(results[0] == results[1]);
    CHECK(results_of_halves[0] == results_of_halves[1]);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -kInfinity}) {
      if (count == 0) continue;
      device[count - 1] = bad;
      std::vector<double> scratch(static_cast<size_t>(cuda::sum_squares_scratch() + 1) / 2);
      double result = 0;
      cuda::sum_squares({}, &result, device.data(), count, reinterpret_cast<float*>(scratch.data()));
      CHECK(!std::isfinite(result));
    }
  }
}

struct AdamWCase {
  std::vector<float> weights, gradients, first, second;
  explicit AdamWCase(int64_t count)
      : weights(normals(40, count)),
        gradients(normals(41, count)),
        first(normals(42, count)),
        second(normals(43, count)) {
    gradients = widened(rounded(gradients));  // so that both dtypes hold the same
    for (float& value : second) value *= value;
    if (count > 2) second[1] = first[1] = gradients[1] = 0;
  }
};

void check_adamw(int64_t count, bool half_gradients, DType dtype, bool with_master, bool as_vector) {
  ThreadPool pool(1);
  const AdamWCase before(count);
  AdamWCase expected = before;
  Array<float> master(before.weights), first(before.first), second(before.second), gradients(before.gradients);
  Array<uint16_t> half_weights(count), halves(rounded(before.gradients));
  Array<float> weights(with_master ? std::vector<float>(static_cast<size_t>(count), NAN) : before.weights);
  for (const int64_t number : {1, 2}) {
    const AdamWStep step{1e-2, 0.9, 0.95, 1e-8, 0.1, 0.37, number};
    cpu::adamw_step(pool, expected.weights.data(), expected.gradients.data(), expected.first.data(),
                    expected.second.data(), count, step);
    const AdamWState state{with_master ? master.data() : nullptr,
                           half_gradients ? TypedPointer(halves.data(), DType::kBFloat16) : gradients.data(),
                           first.data(), second.data()};
    if (as_vector) {
      cuda::adamw_vector({}, weights.data(), dtype, count, state, step);
    } else {
      const bool half = dtype == DType::kBFloat16;
      cuda::adamw_matrix({}, half ? TypedPointer(half_weights.data(), dtype) : weights.data(), count, state, step);
    }
    CHECK(first.copy() == expected.first);
    CHECK(second.copy() == expected.second);
    CHECK((half_gradients ? widened(halves.copy()) : gradients.copy()) == expected.gradients);
    if (with_master) CHECK(master.copy() == expected.weights);
    const std::vector<float> stored = dtype == DType::kBFloat16 ? widened(rounded(expected.weights)) : expected.weights;
    CHECK((dtype == DType::kBFloat16 && !as_vector ? widened(half_weights.copy()) : weights.copy()) == stored);
  }
}

EMULATION_TEST(cuda_adamw_equals_the_cpu) {
  for (const int64_t count : {0, 1, 3, 1024, 2055}) {
    for (const bool half_gradients : {false, true}) {
      in_both_orders([&] {
        check_adamw(count, half_gradients, DType::kFloat32, false, false);
        check_adamw(count, half_gradients, DType::kFloat32, true, false);
        check_adamw(count, half_gradients, DType::kBFloat16, true, false);
        check_adamw(count, half_gradients, DType::kFloat32, false, true);
        check_adamw(count, half_gradients, DType::kBFloat16, true, true);
      });
    }
  }
}

}  // namespace
