// Linear layer products against plain loops, and batch invariance to the bit.
#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

using namespace wideseek;

namespace {

std::vector<float> normal(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> values;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = values(random);
  return x;
}

bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, sizeof(float) * static_cast<size_t>(n)) == 0;
}

std::vector<float> rounded(std::vector<float> w, DType dtype) {
  if (dtype == DType::kBFloat16) {
    for (float& value : w) value = bf16_to_float(float_to_bf16(value));
  }
  return w;
}

// The definition in gemm.h, as three loops.
void reference_forward(float* out, const float* x, const float* w, const float* bias, const float* residual, int64_t M,
                       int64_t N, int64_t K) {
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      float c = 0.0f;
      for (int64_t k = 0; k < K; ++k) c = std::fma(x[m * K + k], w[n * K + k], c);
      if (bias != nullptr) c = c + bias[n];
      if (residual != nullptr) c = c + residual[m * N + n];
      out[m * N + n] = c;
    }
  }
}

struct Shape {
  int64_t N, K;
};
constexpr Shape kShapes[] = {{64, 64}, {1, 1}, {65, 3}, {63, 129}, {128, 384}, {200, 100}, {192, 257}};

}  // namespace

TEST(forward_is_the_stated_chain_to_the_bit) {
  for (int num_threads : {1, 2}) {
    ThreadPool pool(num_threads);
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      for (const Shape& shape : kShapes) {
        const std::vector<float> w = rounded(normal(shape.N * shape.K, 1), dtype), bias = normal(shape.N, 2);
        PackedWeight weight(shape.N, shape.K, dtype);
        weight.store_rows(pool, 0, shape.N, w.data());
        for (int64_t M : {1, 2, 5, 6, 7, 12, 13, 31, 64, 193}) {
          const std::vector<float> x = normal(M * shape.K, 3), residual = normal(M * shape.N, 4);
          std::vector<float> want(static_cast<size_t>(M * shape.N)), out(want.size());
          for (int mode = 0; mode < 4; ++mode) {
            const float* b = (mode & 1) ? bias.data() : nullptr;
            const float* r = (mode & 2) ? residual.data() : nullptr;
            reference_forward(want.data(), x.data(), w.data(), b, r, M, shape.N, shape.K);
            std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
            linear_forward(pool, out.data(), shape.N, x.data(), shape.K, weight, b, r, shape.N, M);
            CHECK(same_bits(out.data(), want.data(), M * shape.N));
            if (r == nullptr) continue;
            out = residual;
            linear_forward(pool, out.data(), shape.N, x.data(), shape.K, weight, b, out.data(), shape.N, M);
            CHECK(same_bits(out.data(), want.data(), M * shape.N));
          }
        }
      }
    }
  }
}

TEST(a_row_does_not_depend_on_its_batch) {
  ThreadPool one(1), two(2);
  const int64_t N = 130, K = 300, rows = 400;
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    PackedWeight weight(N, K, dtype);
    weight.store_rows(one, 0, N, normal(N * K, 5).data());
    const std::vector<float> x = normal(rows * K, 6);
    std::vector<float> all(static_cast<size_t>(rows * N)), part(all.size());
    linear_forward(two, all.data(), N, x.data(), K, weight, nullptr, nullptr, 0, rows);
    std::mt19937 random(7);
    for (int trial = 0; trial < 200; ++trial) {
      const int64_t M = 1 + static_cast<int64_t>(random() % 70),
                    first = static_cast<int64_t>(random() % static_cast<uint32_t>(rows - M));
      linear_forward(trial % 2 ? one : two, part.data(), N, x.data() + first * K, K, weight, nullptr, nullptr, 0, M);
      CHECK(same_bits(part.data(), all.data() + first * N, M * N));
    }
  }
}

TEST(row_strides_leave_the_gaps_alone) {
  ThreadPool pool(2);
  const int64_t M = 20, N = 70, K = 50, ld_x = 61, ld_out = 83;
  const std::vector<float> w = normal(N * K, 8);
  PackedWeight weight(N, K, DType::kFloat32);
  weight.store_rows(pool, 0, N, w.data());
  const std::vector<float> dense = normal(M * K, 9);
  std::vector<float> x(static_cast<size_t>(M * ld_x), std::numeric_limits<float>::quiet_NaN());
  for (int64_t m = 0; m < M; ++m) std::copy_n(dense.data() + m * K, K, x.data() + m * ld_x);
  std::vector<float> want(static_cast<size_t>(M * N)), out(static_cast<size_t>(M * ld_out), -7.0f);
  reference_forward(want.data(), dense.data(), w.data(), nullptr, nullptr, M, N, K);
  linear_forward(pool, out.data(), ld_out, x.data(), ld_x, weight, nullptr, nullptr, 0, M);
  for (int64_t m = 0; m < M; ++m) {
    CHECK(same_bits(out.data() + m * ld_out, want.data() + m * N, N));
    for (int64_t n = N; n < ld_out; ++n) CHECK(out[static_cast<size_t>(m * ld_out + n)] == -7.0f);
  }
  // Rows of the gradients with strides, too.
  std::vector<float> dx(static_cast<size_t>(M * ld_x), -7.0f), dense_dx(static_cast<size_t>(M * K));
  linear_backward_input(pool, dx.data(), ld_x, out.data(), ld_out, weight, M, false);
  linear_backward_input(pool, dense_dx.data(), K, want.data(), N, weight, M, false);
  std::vector<float> dw(static_cast<size_t>(N * K)), dense_dw(dw.size());
  linear_backward_weight(pool, dw.data(), out.data(), ld_out, x.data(), ld_x, M, N, K);
  linear_backward_weight(pool, dense_dw.data(), want.data(), N, dense.data(), K, M, N, K);
  CHECK(same_bits(dw.data(), dense_dw.data(), N * K));
  for (int64_t m = 0; m < M; ++m) {
    CHECK(same_bits(dx.data() + m * ld_x, dense_dx.data() + m * K, K));
    for (int64_t k = K; k < ld_x; ++k) CHECK(dx[static_cast<size_t>(m * ld_x + k)] == -7.0f);
  }
}

TEST(backward_products_are_their_stated_chains) {
  for (const Shape& shape : kShapes) {
    const int64_t N = shape.N, K = shape.K;
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      ThreadPool one(1), two(2);
      const std::vector<float> w = rounded(normal(N * K, 10), dtype);
      PackedWeight weight(N, K, dtype);
      weight.store_rows(one, 0, N, w.data());
      for (int64_t M : {1, 5, 70, 300}) {
        const std::vector<float> x = normal(M * K, 11), dout = normal(M * N, 12), start = normal(M * K, 13),
                                 dw0 = normal(N * K, 14);
        for (bool accumulate : {false, true}) {
          std::vector<float> want(static_cast<size_t>(M * K));
          for (int64_t m = 0; m < M; ++m) {
            for (int64_t k = 0; k < K; ++k) {
              float c = accumulate ? start[static_cast<size_t>(m * K + k)] : 0.0f;
              for (int64_t n = 0; n < N; ++n)
                c = std::fma(dout[static_cast<size_t>(m * N + n)], w[static_cast<size_t>(n * K + k)], c);
              want[static_cast<size_t>(m * K + k)] = c;
            }
          }
          for (ThreadPool* pool : {&one, &two}) {
            std::vector<float> dx = start;
            linear_backward_input(*pool, dx.data(), K, dout.data(), N, weight, M, accumulate);
            CHECK(same_bits(dx.data(), want.data(), M * K));
          }
        }
        std::vector<float> want = dw0;
        for (int64_t n = 0; n < N; ++n) {
          for (int64_t k = 0; k < K; ++k) {
            float& c = want[static_cast<size_t>(n * K + k)];
            for (int64_t m = 0; m < M; ++m)
              c = std::fma(dout[static_cast<size_t>(m * N + n)], x[static_cast<size_t>(m * K + k)], c);
          }
        }
        for (ThreadPool* pool : {&one, &two}) {
          std::vector<float> dw = dw0;
          linear_backward_weight(*pool, dw.data(), dout.data(), N, x.data(), K, M, N, K);
          CHECK(same_bits(dw.data(), want.data(), N * K));
        }
      }
    }
  }
}

TEST(rows_of_a_packed_weight_come_back) {
  ThreadPool pool(2);
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t N = 150, K = 70;
    const std::vector<float> w = rounded(normal(N * K, 15), dtype);
    PackedWeight weight(N, K, dtype);
    for (int64_t first : {0, 40, 64, 149}) {
      const int64_t next = first == 0 ? 40 : first == 40 ? 64 : first == 64 ? 149 : N;
      weight.store_rows(pool, first, next - first, w.data() + first * K);
    }
    std::vector<float> back(w.size());
    weight.load_rows(pool, 0, N, back.data());
    CHECK(same_bits(back.data(), w.data(), N * K));
    weight.load_rows(pool, 63, 3, back.data());
    CHECK(same_bits(back.data(), w.data() + 63 * K, 3 * K));
    CHECK_THROWS(weight.store_rows(pool, 149, 2, w.data()));
    CHECK_THROWS(weight.load_rows(pool, -1, 2, back.data()));
  }
  CHECK_THROWS(PackedWeight(0, 4, DType::kFloat32));
  CHECK_THROWS(PackedWeight(4, 4, DType::kFloat16));
}

TEST(values_that_are_not_finite_stay_in_their_row) {
  ThreadPool pool(2);
  const int64_t M = 14, N = 64, K = 64;
  PackedWeight weight(N, K, DType::kFloat32);
  weight.store_rows(pool, 0, N, normal(N * K, 16).data());
  std::vector<float> x = normal(M * K, 17), want(static_cast<size_t>(M * N)), out(want.size());
  linear_forward(pool, want.data(), N, x.data(), K, weight, nullptr, nullptr, 0, M);
  std::fill_n(x.data() + 5 * K, K, std::numeric_limits<float>::quiet_NaN());
  linear_forward(pool, out.data(), N, x.data(), K, weight, nullptr, nullptr, 0, M);
  CHECK(same_bits(out.data(), want.data(), 5 * N));
  CHECK(same_bits(out.data() + 6 * N, want.data() + 6 * N, 8 * N));
  CHECK(std::isnan(out[static_cast<size_t>(5 * N)]));
}
