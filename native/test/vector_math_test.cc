// Vector functions against the C library in double, to the bit between instruction sets, and the fixed reduction order.
#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/isa.h"
#include "vector_math_cases.h"

namespace {

std::vector<const VectorMathCase*> cases() {
  std::vector<const VectorMathCase*> all = {&vector_math_portable};
#if defined(__x86_64__)
  if (wideseek::cpu_isa() >= wideseek::Isa::kAvx2) all.push_back(&vector_math_avx2);
  if (wideseek::cpu_isa() >= wideseek::Isa::kAvx512) all.push_back(&vector_math_avx512);
#endif
  return all;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
bool same_bits(float a, float b) { return bits_of(a) == bits_of(b) || (a != a && b != b); }

float ulp_of(double x) {
  const float a = std::fabs(static_cast<float>(x));
  return std::nextafter(a, std::numeric_limits<float>::infinity()) - a;
}

std::vector<float> uniform(int64_t n, float low, float high, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(low, high);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = values(random);
  return x;
}

// The order that vector_math.h states, written out lane by lane.
float sum_in_stated_order(const std::vector<float>& x) {
  float lanes[4][16] = {};
  for (size_t i = 0; i < x.size(); ++i) lanes[i / 16 % 4][i % 16] += x[i];
  float total[16];
  for (int l = 0; l < 16; ++l) total[l] = (lanes[0][l] + lanes[1][l]) + (lanes[2][l] + lanes[3][l]);
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) total[l] += total[l + half];
  }
  return total[0];
}

}  // namespace

TEST(exp_is_within_an_ulp_or_so) {
  const std::vector<float> x = uniform(200000, -87.0f, 88.7f, 1);
  std::vector<float> y(x.size());
  for (const VectorMathCase* math : cases()) {
    math->exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(static_cast<double>(x[i]));
      worst = std::max(worst, std::fabs(y[i] - want) / ulp_of(want));
    }
    CHECK_NEAR(worst, 0.0, 1.1);
  }
}

TEST(exp_special_values) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const VectorMathCase* math : cases()) {
    CHECK(math->exp_scalar(0.0f) == 1.0f);
    CHECK(math->exp_scalar(-0.0f) == 1.0f);
    CHECK(bits_of(math->exp_scalar(-infinity)) == 0);
    CHECK(bits_of(math->exp_scalar(-200.0f)) == 0);
    CHECK(math->exp_scalar(infinity) == infinity);
    CHECK(math->exp_scalar(89.0f) == infinity);
    CHECK(std::isnan(math->exp_scalar(std::numeric_limits<float>::quiet_NaN())));
    CHECK_NEAR(math->exp_scalar(88.72f) / std::exp(static_cast<double>(88.72f)), 1.0, 1e-6);
    for (float x : {-88.0f, -95.0f, -100.0f, -103.0f}) {
      CHECK_NEAR(math->exp_scalar(x), std::exp(static_cast<double>(x)),
                 1.5 * std::numeric_limits<float>::denorm_min() + 1e-7 * std::exp(x));
    }
  }
}

TEST(log_is_within_an_ulp_or_so) {
  std::vector<float> x = uniform(100000, 0.25f, 4.0f, 2);
  for (float e : uniform(100000, -86.0f, 88.0f, 3)) x.push_back(std::exp(e));
  std::vector<float> y(x.size());
  for (const VectorMathCase* math : cases()) {
    math->log(x.data(), y.data(), static_cast<int64_t>(x.size()));
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::log(static_cast<double>(x[i]));
      worst = std::max(worst, std::fabs(y[i] - want) / ulp_of(want));
    }
    CHECK_NEAR(worst, 0.0, 2.0);
  }
}

TEST(log_special_values) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const VectorMathCase* math : cases()) {
    CHECK(bits_of(math->log_scalar(1.0f)) == 0);
    CHECK(math->log_scalar(0.0f) == -infinity);
    CHECK(math->log_scalar(-0.0f) == -infinity);
    CHECK(math->log_scalar(infinity) == infinity);
    CHECK(std::isnan(math->log_scalar(-1.0f)));
    CHECK(std::isnan(math->log_scalar(-infinity)));
    CHECK(std::isnan(math->log_scalar(std::numeric_limits<float>::quiet_NaN())));
    CHECK_NEAR(math->log_scalar(1e-42f), std::log(static_cast<double>(1e-42f)), 2e-5);
  }
}

TEST(every_isa_gives_the_same_bits) {
  std::vector<float> x = uniform(5000, -110.0f, 95.0f, 4);
  std::vector<float> positive;
  for (float value : x) positive.push_back(std::fabs(value));
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> want(x.size()), got(x.size());
  for (const VectorMathCase* math : cases()) {
    for (auto function : {&VectorMathCase::exp, &VectorMathCase::log, &VectorMathCase::sigmoid}) {
      const float* in = function == &VectorMathCase::log ? positive.data() : x.data();
      (vector_math_portable.*function)(in, want.data(), n);
      (math->*function)(in, got.data(), n);
      for (size_t i = 0; i < x.size(); ++i) CHECK(same_bits(want[i], got[i]));
    }
    for (int64_t length : {0, 1, 15, 16, 17, 63, 64, 65, 100, 1000}) {
      CHECK(same_bits(math->sum(x.data(), length), vector_math_portable.sum(x.data(), length)));
      CHECK(same_bits(math->max(x.data(), length), vector_math_portable.max(x.data(), length)));
      CHECK(same_bits(math->dot(x.data(), positive.data(), length),
                      vector_math_portable.dot(x.data(), positive.data(), length)));
      CHECK(same_bits(math->sum_exp(x.data(), 95.0f, length), vector_math_portable.sum_exp(x.data(), 95.0f, length)));
    }
  }
}

TEST(tails_and_scalars_give_the_bits_of_full_vectors) {
  std::vector<float> x = uniform(64, -20.0f, 20.0f, 5);
  for (const VectorMathCase* math : cases()) {
    std::vector<float> full(64), part(80);
    math->exp(x.data(), full.data(), 64);
    for (int64_t length = 0; length <= 64; ++length) {
      for (size_t offset : {0u, 1u, 7u}) {
        // An unaligned copy between guards that must survive.
        std::vector<float> in(80, std::numeric_limits<float>::quiet_NaN());
        std::copy_n(x.begin(), length, in.begin() + static_cast<int64_t>(offset));
        std::fill(part.begin(), part.end(), -7.0f);
        math->exp(in.data() + offset, part.data() + offset, length);
        for (int64_t i = 0; i < 64; ++i) {
          const float got = part[static_cast<size_t>(i) + offset];
          CHECK(i < length ? same_bits(got, full[static_cast<size_t>(i)]) : got == -7.0f);
        }
      }
    }
    for (size_t i = 0; i < 64; ++i) CHECK(same_bits(math->exp_scalar(x[i]), full[i]));
  }
}

TEST(sums_follow_the_stated_order) {
  for (const VectorMathCase* math : cases()) {
    for (int64_t n = 0; n < 300; ++n) {
      const std::vector<float> x = uniform(n, -1.0f, 1.0f, static_cast<uint32_t>(n));
      CHECK(same_bits(math->sum(x.data(), n), sum_in_stated_order(x)));
      float largest = -std::numeric_limits<float>::infinity();
      for (float value : x) largest = std::max(largest, value);
      CHECK(same_bits(math->max(x.data(), n), largest));
    }
  }
}

TEST(bf16_widens_exactly) {
  for (const VectorMathCase* math : cases()) {
    for (int64_t n : {1, 5, 16, 21}) {
      std::vector<uint16_t> x;
      for (int64_t i = 0; i < n; ++i) x.push_back(static_cast<uint16_t>(0x3F80 + 1571 * i));
      std::vector<float> y(static_cast<size_t>(n));
      math->widen(x.data(), y.data(), n);
      for (size_t i = 0; i < y.size(); ++i) CHECK(bits_of(y[i]) == uint32_t{x[i]} << 16);
    }
  }
}
