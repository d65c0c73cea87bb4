// Row-wise CUDA kernels under emulation, against the CPU backend's, in both thread orders: forward fp32 to the bit,
// bf16 within the rounding of its results.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "check.h"
#include "cpu/row_ops.h"
#include "cpu/vector_math.h"
#include "cuda/bias.h"
#include "cuda/elementwise.h"
#include "cuda/embedding.h"
#include "cuda/emulation/emulation.h"
#include "cuda/qk_norm_rope.h"
#include "cuda/rms_norm.h"
#include "cuda/rows.h"
#include "cuda/swiglu.h"

namespace {

using namespace wideseek;
using emulation::ThreadOrder;

constexpr float kEps = 1e-6f;
constexpr ThreadOrder kOrders[] = {ThreadOrder::kFirstToLast, ThreadOrder::kLastToFirst};

using Floats = std::vector<float>;

// Values that bf16 holds, so that both types can be given the same input.
Floats normals(uint64_t stream, int64_t count) {
  Floats values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[i] = bf16_to_float(float_to_bf16(static_cast<float>(philox_normal(7, stream, i))));
  }
  return values;
}

// An array on the "device" in either type.
struct Tensor {
  DType dtype;
  std::vector<uint32_t> words;
  int64_t count;
  Tensor(DType type, const Floats& values) : dtype(type), words(values.size() + 4), count(values.size()) {
    convert_from_float(values.data(), words.data(), dtype, count);
  }
  TypedPointer pointer() { return {words.data(), dtype}; }
  Floats values() const {
    Floats result(static_cast<size_t>(count));
    convert_to_float(words.data(), dtype, result.data(), count);
    return result;
  }
};

// fp32: |actual - expected| <= tolerance (0: the same). bf16: the same, and half a unit of the last place.
void check_close(const Tensor& actual, const Floats& expected, double tolerance) {
  const Floats values = actual.values();
  CHECK(values.size() == expected.size());
  const double relative = actual.dtype == DType::kBFloat16 ? 1.01 / 256 : 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK_NEAR(values[i], expected[i], tolerance + relative * std::fabs(expected[i]));
  }
}

template <typename F>
void for_types_and_orders(F&& f) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const ThreadOrder order : kOrders) {
      emulation::set_thread_order(order);
      f(dtype);
    }
  }
}

Floats scratch_of(int64_t count) { return Floats(static_cast<size_t>(count), std::nanf("")); }

EMULATION_TEST(cuda_elementwise_functions_equal_a_vector_lane) {
  const auto same = [](float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (a != a && b != b);
  };
  const auto check_at = [&](uint32_t bits) {
    const auto x = std::bit_cast<float>(bits);
    CHECK(same(cuda::exp(x), wideseek::exp(x)));
    CHECK(same(cuda::log(x), wideseek::log(x)));
    CHECK(same(cuda::sigmoid(x), first_lane(wideseek::sigmoid(splat(x)))));
  };
  // Every exponent, with either sign; then around zero, the smallest normal, 1, e and where exp ends, and infinity.
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 65521 / 2) check_at(static_cast<uint32_t>(bits));
  for (const float middle : {0.0f, std::numeric_limits<float>::min(), 1.0f, 2.7182817f, 88.722839f, 89.0f, 87.336544f,
                             104.0f, 0x1p-149f, std::numeric_limits<float>::infinity()}) {
    for (int32_t step = -40; step <= 40; ++step) {
      check_at(std::bit_cast<uint32_t>(middle) + static_cast<uint32_t>(step));
      check_at(std::bit_cast<uint32_t>(-middle) + static_cast<uint32_t>(step));
    }
  }
  check_at(0x7fc00000u);
  check_at(0xffc00000u);
}

void check_rms_norm(int64_t T, int64_t C) {
  ThreadPool pool(1);
  const Floats x = normals(0, T * C), weight = normals(1, C), dout = normals(2, T * C), before = normals(3, T * C);
  Floats expected(x.size()), dx_expected = before, dweight_expected = normals(4, C);
  const Floats dweight_before = dweight_expected;
  cpu::rms_norm_forward(pool, expected.data(), x.data(), weight.data(), T, C, kEps);
  cpu::rms_norm_backward(pool, dx_expected.data(), dweight_expected.data(), dout.data(), x.data(), weight.data(), T, C,
                         kEps);
  for_types_and_orders([&](DType dtype) {
    Tensor out(dtype, x), dx(dtype, before), dout_tensor(dtype, dout), x_tensor(dtype, x);
    Tensor dweight(DType::kFloat32, dweight_before);
    cuda::rms_norm_forward({}, out.pointer(), out.pointer(), weight.data(), T, C, kEps);  // in place
    check_close(out, expected, 0);
    Floats scratch = scratch_of(cuda::rms_norm_backward_scratch(C));
    cuda::rms_norm_backward({}, dx.pointer(), dweight.pointer(), dout_tensor.pointer(), x_tensor.pointer(),
                            weight.data(), T, C, kEps, scratch.data());
    check_close(dx, dx_expected, 4e-6);
    check_close(dweight, dweight_expected, 1e-5 * std::sqrt(T + 1.0));
  });
}

EMULATION_TEST(cuda_rms_norm_equals_the_cpu) {
  for (const int64_t C : {64, 72, 75, 100, 1032, 2560}) check_rms_norm(7, C);
  check_rms_norm(1, 5000);
  check_rms_norm(0, 64);
  check_rms_norm(3100, 16);  // more rows than groups
  Floats row(10000), scratch(1);
  CHECK_THROWS(cuda::rms_norm_backward({}, row.data(), row.data(), row.data(), row.data(), row.data(), 1, 10000, kEps,
                                       scratch.data()));
}

void check_qk_norm_rope(const AttentionShape& shape, int64_t T, bool norm_q, bool norm_k) {
  ThreadPool pool(1);
  const int64_t D = shape.head_dim, width = shape.qkv_size();
  const Floats qkv = normals(0, T * width), d = normals(1, T * width), q_norm = normals(2, D), k_norm = normals(3, D);
  const Floats cos = normals(4, 9 * D / 2), sin = normals(5, 9 * D / 2), dnorm_before = normals(6, D);
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < T; ++t) positions.push_back(static_cast<int32_t>(t * 5 % 9));
  const float* q = norm_q ? q_norm.data() : nullptr;
  const float* k = norm_k ? k_norm.data() : nullptr;
  Floats expected(qkv.size()), d_expected = d, dq_expected = dnorm_before, dk_expected = dnorm_before;
  cpu::qk_norm_rope_forward(pool, expected.data(), qkv.data(), q, k, cos.data(), sin.data(), positions.data(), shape, T,
                            kEps);
  cpu::qk_norm_rope_backward(pool, d_expected.data(), dq_expected.data(), dk_expected.data(), qkv.data(), q, k,
                             cos.data(), sin.data(), positions.data(), shape, T, kEps);
  for_types_and_orders([&](DType dtype) {
    Tensor rows(dtype, qkv), out(dtype, Floats(qkv.size(), std::nanf(""))), dqkv(dtype, d);
    Tensor dq(DType::kFloat32, dnorm_before), dk = dq;
    Floats scratch = scratch_of(cuda::qk_norm_rope_backward_scratch(shape));
    cuda::qk_norm_rope_forward({}, out.pointer(), rows.pointer(), q, k, cos.data(), sin.data(), positions.data(), shape,
                               T, kEps);
    // Where a rotation cancels, fp32 rounding is all that is left.
    check_close(out, expected, dtype == DType::kFloat32 ? 0 : 1e-6);
    cuda::qk_norm_rope_backward({}, dqkv.pointer(), dq.pointer(), dk.pointer(), rows.pointer(), q, k, cos.data(),
                                sin.data(), positions.data(), shape, T, kEps, scratch.data());
    check_close(dqkv, d_expected, 4e-6);
    check_close(dq, dq_expected, 2e-5);
    check_close(dk, dk_expected, 2e-5);
    cuda::qk_norm_rope_forward({}, rows.pointer(), rows.pointer(), q, k, cos.data(), sin.data(), positions.data(),
                               shape, T, kEps);  // in place
    CHECK(rows.values() == out.values());
  });
}

EMULATION_TEST(cuda_qk_norm_rope_equals_the_cpu) {
  for (const int64_t D : {6, 20, 32, 64, 72, 96, 128, 208, 256}) check_qk_norm_rope({5, 2, D}, 3, true, true);
  check_qk_norm_rope({16, 8, 128}, 2, true, true);
  check_qk_norm_rope({6, 2, 64}, 2, false, false);
  check_qk_norm_rope({3, 3, 128}, 2, true, false);
  check_qk_norm_rope({1, 1, 128}, 0, true, true);
  check_qk_norm_rope({1, 1, 4}, 1100, true, true);  // more tokens than groups
  CHECK_THROWS(check_qk_norm_rope({1, 1, 258}, 1, true, true));
}

EMULATION_TEST(cuda_swiglu_equals_the_cpu) {
  ThreadPool pool(1);
  for (const auto& [T, F] : {std::pair<int64_t, int64_t>{5, 24}, {3, 2064}, {4, 21}, {1, 3072}, {0, 8}}) {
    const Floats gate_up = normals(0, T * 2 * F), dout = normals(1, T * F);
    Floats expected(dout.size()), d_expected = gate_up;
    cpu::swiglu_forward(pool, expected.data(), gate_up.data(), T, F);
    cpu::swiglu_backward(pool, d_expected.data(), dout.data(), T, F);
    for_types_and_orders([&](DType dtype) {
      Tensor rows(dtype, gate_up), out(dtype, dout), dout_tensor(dtype, dout);
      cuda::swiglu_forward({}, out.pointer(), rows.pointer(), T, F);
      check_close(out, expected, 0);
      cuda::swiglu_backward({}, rows.pointer(), dout_tensor.pointer(), T, F);
      check_close(rows, d_expected, 0);
    });
  }
}

EMULATION_TEST(cuda_rows_are_copied_and_converted) {
  for (const auto& [R, C] : {std::pair<int64_t, int64_t>{9, 48}, {6, 1100}, {5, 7}, {0, 16}}) {
    constexpr int64_t kRows = 13;
    const Floats table = normals(0, kRows * C), values = normals(1, R * C);
    std::vector<int32_t> rows;
    for (int64_t r = 0; r < R; ++r) rows.push_back(static_cast<int32_t>(r * 5 % kRows));
    Floats gathered(values.size()), scattered = table;
    for (int64_t r = 0; r < R; ++r) {
      std::copy_n(table.begin() + rows[r] * C, C, gathered.begin() + r * C);
      std::copy_n(values.begin() + r * C, C, scattered.begin() + rows[r] * C);
    }
    for_types_and_orders([&](DType dtype) {
      for (const DType other : {DType::kFloat32, DType::kBFloat16}) {
        Tensor x(dtype, table), out(other, values), source(other, values), converted(dtype, values);
        cuda::embedding_forward({}, out.pointer(), x.pointer(), rows.data(), R, C);
        CHECK(out.values() == gathered);
        cuda::scatter_rows({}, x.pointer(), source.pointer(), rows.data(), R, C);
        CHECK(x.values() == scattered);
        cuda::convert({}, converted.pointer(), source.pointer(), R * C);
        CHECK(converted.values() == values);
        if (R * C < 3) continue;
        cuda::convert({}, converted.pointer() + 1, source.pointer() + 2, R * C - 2);  // not aligned
        Floats shifted = values;
        std::copy(values.begin() + 2, values.end(), shifted.begin() + 1);
        CHECK(converted.values() == shifted);
      }
    });
  }
  Floats out(1003), source = normals(0, 1003);
  for (float& value : source) value *= 1.001f;
  cuda::store_vector({}, out.data(), source.data(), 1003, DType::kFloat32);
  CHECK(out == source);
  cuda::store_vector({}, out.data(), source.data(), 1003, DType::kBFloat16);
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == bf16_to_float(float_to_bf16(source[i])));
}

EMULATION_TEST(cuda_bias_backward_sums_the_rows) {
  ThreadPool pool(1);
  for (const auto& [T, N] : {std::pair<int64_t, int64_t>{1, 8}, {700, 24}, {37, 1100}, {300, 13}, {0, 8}}) {
    const Floats dout = normals(0, T * N), before = normals(1, N);
    Floats expected = before;
    cpu::bias_backward(pool, expected.data(), dout.data(), T, N);
    for_types_and_orders([&](DType dtype) {
      Tensor dbias(DType::kFloat32, before), dout_tensor(dtype, dout);
      Floats scratch = scratch_of(cuda::bias_backward_scratch(N));
      cuda::bias_backward({}, dbias.pointer(), dout_tensor.pointer(), T, N, scratch.data());
      check_close(dbias, expected, 4e-5);
    });
  }
}

// tokens_of(t) < kVocab. The gradients are small integers, so that sums are exact in any order and a lost, doubled or
// misplaced row shows.
template <typename F>
void check_embedding_backward(int64_t T, int64_t C, F&& token_of) {
  ThreadPool pool(1);
  constexpr int64_t kVocab = 3000;
  std::vector<int32_t> tokens;
  for (int64_t t = 0; t < T; ++t) tokens.push_back(static_cast<int32_t>(token_of(t)));
  Floats dout(static_cast<size_t>(T * C)), before(static_cast<size_t>(kVocab * C));
  for (int64_t i = 0; i < T * C; ++i) dout[i] = static_cast<float>(philox_block(3, 0, i)[0] % 5) - 2;
  for (int64_t i = 0; i < kVocab * C; ++i) before[i] = static_cast<float>(philox_block(3, 1, i)[0] % 5) - 2;
  Floats expected = before;
  cpu::embedding_backward(pool, expected.data(), dout.data(), tokens.data(), T, C);
  for_types_and_orders([&](DType dtype) {
    Tensor table(dtype, before), rows(DType::kBFloat16, dout);
    Floats scratch = scratch_of(cuda::embedding_backward_scratch(T, C));
    cuda::embedding_backward({}, table.pointer(), rows.pointer(), tokens.data(), T, C, scratch.data());
    check_close(table, expected, 0);
  });
}

EMULATION_TEST(cuda_embedding_backward_equals_the_cpu) {
  const auto random = [](int64_t vocab) {
    return [vocab](int64_t t) { return philox_block(5, 0, t)[0] % static_cast<uint64_t>(vocab); };
  };
  check_embedding_backward(0, 8, random(3000));
  check_embedding_backward(1, 16, random(3000));
  check_embedding_backward(32, 13, random(4));
  check_embedding_backward(33, 8, [](int64_t) { return 2999; });
  check_embedding_backward(400, 272, random(3000));
  check_embedding_backward(1100, 8, [](int64_t t) { return t % 3 == 0 ? 7 : t * 7 % 3000; });
  check_embedding_backward(1500, 8, random(12));
  check_embedding_backward(700, 8, [](int64_t) { return 0; });
}

EMULATION_TEST(cuda_embedding_backward_sums_in_row_order) {
  ThreadPool pool(1);
  constexpr int64_t T = 32, C = 24;  // one window
  const Floats dout = normals(0, T * C), before = normals(1, 5 * C);
  std::vector<int32_t> tokens;
  for (int64_t t = 0; t < T; ++t) tokens.push_back(static_cast<int32_t>(t * 3 % 5));
  Floats expected = before;
  cpu::embedding_backward(pool, expected.data(), dout.data(), tokens.data(), T, C);
  for (const ThreadOrder order : kOrders) {
    emulation::set_thread_order(order);
    Floats table = before, rows = dout, scratch = scratch_of(cuda::embedding_backward_scratch(T, C));
    cuda::embedding_backward({}, table.data(), rows.data(), tokens.data(), T, C, scratch.data());
    CHECK(table == expected);
  }
}

}  // namespace
