// CUDA attention under emulation: fp32 against the CPU backend's, bf16 against sums in double that round what tensor
// cores round, shared prefixes, and rows that do not depend on how they were batched. In both thread orders, and bf16
// with the kernels for compute capability 8 and those for 9.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "backend.h"
#include "base/rng.h"
#include "check.h"
#include "cuda/attention.h"
#include "cuda/emulation/emulation.h"

namespace {

using namespace wideseek;
using emulation::ThreadOrder;

std::vector<float> normals(uint64_t stream, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<float>(philox_normal(7, stream, i));
  return values;
}

float round_to(DType dtype, float value) {
  return dtype == DType::kBFloat16 ? bf16_to_float(float_to_bf16(value)) : value;
}

// Values as a device of `dtype` holds them.
class Activations {
 public:
  Activations(DType dtype, const std::vector<float>& values)
      : dtype_(dtype), bytes_(values.size() * static_cast<size_t>(dtype_bytes(dtype)) + 64) {
    convert_from_float(values.data(), pointer().data, dtype, static_cast<int64_t>(values.size()));
  }
  TypedPointer pointer() {
    const auto first = (reinterpret_cast<uintptr_t>(bytes_.data()) + 63) & ~uintptr_t{63};
    return {reinterpret_cast<void*>(first), dtype_};
  }
  std::vector<float> values() {
    std::vector<float> values((bytes_.size() - 64) / static_cast<size_t>(dtype_bytes(dtype_)));
    convert_to_float(pointer().data, dtype_, values.data(), static_cast<int64_t>(values.size()));
    return values;
  }

 private:
  DType dtype_;
  std::vector<std::byte> bytes_;
};

// A packed call. A slice with first_position > 0 reads blocks of another.
struct Call {
  DType dtype;
  AttentionShape shape;
  std::vector<SequenceSlice> slices;
  std::vector<std::vector<int32_t>> tables;
  std::vector<float> qkv, dout;
  int64_t num_blocks = 0;

  int64_t rows() const { return slices.empty() ? 0 : slices.back().first_row + slices.back().num_rows; }
  int64_t num_slices() const { return static_cast<int64_t>(slices.size()); }
  void add_slice(int64_t num_rows, int64_t first_position, std::vector<int32_t> table) {
    for (int32_t block : table) num_blocks = std::max<int64_t>(num_blocks, block + 1);
    const int64_t first_row = rows();
    tables.push_back(std::move(table));
    slices.push_back({first_row, num_rows, first_position, nullptr});
    for (size_t s = 0; s < slices.size(); ++s) slices[s].block_table = tables[s].data();
  }
  void fill(uint64_t stream) {
    qkv = normals(stream, rows() * shape.qkv_size());
    dout = normals(stream + 1, rows() * shape.num_heads * shape.head_dim);
    for (float& value : qkv) value = round_to(dtype, value);
    for (float& value : dout) value = round_to(dtype, value);
  }
};

struct Result {
  std::vector<float> out, lse, dqkv;
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Result run_cuda(const Call& call, ThreadOrder order = ThreadOrder::kFirstToLast, bool with_backward = true) {
  emulation::set_thread_order(order);
  const auto memory = create_backend("cpu", 1);  // under emulation, device memory is the host's
  const auto plan = cuda::plan_attention(*memory, call.shape, call.slices.data(), call.num_slices());
  const int64_t head_columns = call.shape.num_heads * call.shape.head_dim;
  // What no row stored must not show, whatever it is.
  const std::vector<float> nans(
      static_cast<size_t>(call.num_blocks * 16 * call.shape.num_kv_heads * call.shape.head_dim), kNan);
  Activations qkv(call.dtype, call.qkv), dout(call.dtype, call.dout), keys(call.dtype, nans), values(call.dtype, nans);
  Activations out(call.dtype, std::vector<float>(static_cast<size_t>(call.rows() * head_columns), kNan));
  Activations dqkv(call.dtype, std::vector<float>(call.qkv.size(), kNan));
  std::vector<float> lse(static_cast<size_t>(call.rows() * call.shape.num_heads), kNan);
  const KvBlocks cache{keys.pointer(), values.pointer()};
  cuda::kv_store({}, cache, qkv.pointer(), *plan);
  std::vector<float> forward_scratch(static_cast<size_t>(cuda::attention_forward_scratch(call.dtype, *plan)), kNan);
  cuda::attention_forward({}, out.pointer(), lse.data(), qkv.pointer(), cache, *plan, forward_scratch.data());
  if (with_backward) {
    std::vector<float> scratch(static_cast<size_t>(cuda::attention_backward_scratch(*plan)), kNan);
    cuda::attention_backward({}, dqkv.pointer(), dout.pointer(), out.pointer(), lse.data(), qkv.pointer(), cache,
                             KvBlocks{}, *plan, scratch.data());
  }
  return {out.values(), lse, dqkv.values()};
}

// The CPU backend in fp32.
Result run_cpu(const Call& call) {
  const auto backend = create_backend("cpu", 1);
  const auto plan = backend->plan_attention(call.shape, call.slices.data(), call.num_slices());
  std::vector<float> keys(static_cast<size_t>(call.num_blocks * 16 * call.shape.num_kv_heads * call.shape.head_dim));
  std::vector<float> values = keys, dkeys = keys, dvalues = keys;
  const KvBlocks cache{keys.data(), values.data()}, dcache{dkeys.data(), dvalues.data()};
  Result result{std::vector<float>(static_cast<size_t>(call.rows() * call.shape.num_heads * call.shape.head_dim)),
                std::vector<float>(static_cast<size_t>(call.rows() * call.shape.num_heads)),
                std::vector<float>(call.qkv.size())};
  backend->kv_store(cache, call.qkv.data(), *plan);
  backend->attention_forward(result.out.data(), result.lse.data(), call.qkv.data(), cache, *plan);
  backend->attention_backward(result.dqkv.data(), call.dout.data(), result.out.data(), result.lse.data(),
                              call.qkv.data(), cache, dcache, *plan);
  return result;
}

// Rows that each row attends to, itself last: found through the blocks.
std::vector<std::vector<int64_t>> visible_rows(const Call& call) {
  std::vector<int64_t> row_of_slot(static_cast<size_t>(call.num_blocks * 16), -1);
  std::vector<std::vector<int64_t>> visible;
  for (const SequenceSlice& slice : call.slices) {
    for (int64_t p = slice.first_position; p < slice.first_position + slice.num_rows; ++p)
      row_of_slot[static_cast<size_t>(slice.block_table[p / 16] * 16 + p % 16)] =
          slice.first_row + p - slice.first_position;
  }
  for (const SequenceSlice& slice : call.slices) {
    for (int64_t p = slice.first_position; p < slice.first_position + slice.num_rows; ++p) {
      visible.emplace_back();
      for (int64_t j = 0; j <= p; ++j)
        visible.back().push_back(row_of_slot[static_cast<size_t>(slice.block_table[j / 16] * 16 + j % 16)]);
    }
  }
  return visible;
}

// The textbook formulas in double for the same inputs, where out, the probabilities and the score gradients that enter
// products are rounded to `dtype`, and so are the results: what any kernel with those types must lose.
Result run_reference(const Call& call, DType dtype) {
  const int64_t H = call.shape.num_heads, K = call.shape.num_kv_heads, D = call.shape.head_dim,
                ld = call.shape.qkv_size();
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  const auto visible = visible_rows(call);
  const auto rounded = [dtype](double x) { return static_cast<double>(round_to(dtype, static_cast<float>(x))); };
  std::vector<double> gradient(call.qkv.size());
  Result result;
  for (int64_t i = 0; i < call.rows(); ++i) {
    for (int64_t h = 0; h < H; ++h) {
      const int64_t kv = h / (H / K);
      const float* q = call.qkv.data() + i * ld + h * D;
      const float* dout = call.dout.data() + (i * H + h) * D;
      std::vector<double> score, dp, out(static_cast<size_t>(D));
      double max = -1e300, total = 0, delta = 0;
      for (int64_t row : visible[static_cast<size_t>(i)]) {
        const float* k = call.qkv.data() + row * ld + (H + kv) * D;
        double s = 0, g = 0;
        for (int64_t d = 0; d < D; ++d) {
          s += static_cast<double>(q[d]) * k[d];
          g += static_cast<double>(dout[d]) * k[K * D + d];
        }
        score.push_back(s * scale);
        dp.push_back(g);
        max = std::max(max, s * scale);
      }
      for (double s : score) total += std::exp(s - max);
      for (size_t j = 0; j < score.size(); ++j) {
        const float* v = call.qkv.data() + visible[static_cast<size_t>(i)][j] * ld + (H + K + kv) * D;
        for (int64_t d = 0; d < D; ++d) out[static_cast<size_t>(d)] += rounded(std::exp(score[j] - max)) * v[d] / total;
      }
      for (int64_t d = 0; d < D; ++d) {
        result.out.push_back(static_cast<float>(rounded(out[static_cast<size_t>(d)])));
        delta += static_cast<double>(dout[d]) * result.out.back();
      }
      result.lse.push_back(static_cast<float>(max + std::log(total)));
      for (size_t j = 0; j < score.size(); ++j) {
        const int64_t key = visible[static_cast<size_t>(i)][j] * ld + (H + kv) * D;
        const double p = std::exp(score[j] - max) / total, ds = rounded(p * (dp[j] - delta)) * scale;
        for (int64_t d = 0; d < D; ++d) {
          gradient[static_cast<size_t>(i * ld + h * D + d)] += ds * call.qkv[static_cast<size_t>(key + d)];
          gradient[static_cast<size_t>(key + d)] += ds * q[d];
          gradient[static_cast<size_t>(key + K * D + d)] += rounded(p) * dout[d];
        }
      }
    }
  }
  for (double g : gradient) result.dqkv.push_back(static_cast<float>(rounded(g)));
  return result;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (float value : values) most = std::max(most, std::fabs(static_cast<double>(value)));
  return most;
}

void check_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance) {
  CHECK(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) CHECK_NEAR(actual[i], expected[i], tolerance);
}

// No worse than twice the error of `rounded`, both as sums of squares and at the worst element.
void check_rounding(const std::vector<float>& actual, const std::vector<float>& exact,
                    const std::vector<float>& rounded) {
  double squares = 0, squares_of_rounding = 0, worst = 0, worst_of_rounding = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - static_cast<double>(exact[i])),
                 of_rounding = std::fabs(rounded[i] - static_cast<double>(exact[i]));
    squares += error * error;
    squares_of_rounding += of_rounding * of_rounding;
    worst = error <= worst ? worst : error;  // NaN becomes the worst
    worst_of_rounding = std::max(worst_of_rounding, of_rounding);
  }
  CHECK(squares <= 1.5 * 1.5 * squares_of_rounding);
  CHECK(worst <= 2 * worst_of_rounding);
}

// A prefix of five blocks that three slices share in part, slices of one row, blocks in no order, an unfinished slice
// whose last block another one goes on to fill.
Call forest(DType dtype, const AttentionShape& shape) {
  Call call{dtype, shape, {}, {}, {}, {}};
  call.add_slice(94, 0, {7, 2, 9, 4, 0, 11});
  call.add_slice(1, 0, {3});
  call.add_slice(23, 80, {7, 2, 9, 4, 0, 5, 1});
  call.add_slice(70, 32, {7, 2, 12, 13, 8, 6, 10});
  call.add_slice(1, 16, {7, 14});
  call.add_slice(21, 0, {15, 16});
  call.add_slice(19, 21, {15, 16, 17});
  call.fill(10);
  return call;
}

EMULATION_TEST(cuda_plain_attention_equals_the_cpu) {
  const AttentionShape shapes[] = {{4, 2, 6}, {3, 3, 20}, {2, 1, 160}};
  for (const AttentionShape& shape : shapes) {
    const Call call = forest(DType::kFloat32, shape);
    const Result expected = run_cpu(call);
    for (const auto order : {ThreadOrder::kFirstToLast, ThreadOrder::kLastToFirst}) {
      const Result actual = run_cuda(call, order);
      check_near(actual.out, expected.out, 1e-5 * largest(expected.out));
      check_near(actual.lse, expected.lse, 1e-5 * largest(expected.lse));
      check_near(actual.dqkv, expected.dqkv, 1e-5 * largest(expected.dqkv));
    }
  }
}

// ---- bf16 against what rounding explains: plain kernels at a head size of 36, else tensor cores

EMULATION_TEST(cuda_attention_reference_equals_the_cpu) {
  const Call call = forest(DType::kBFloat16, {2, 1, 64});
  const Result expected = run_cpu(call), reference = run_reference(call, DType::kFloat32);
  check_near(reference.out, expected.out, 1e-5 * largest(expected.out));
  check_near(reference.dqkv, expected.dqkv, 1e-5 * largest(expected.dqkv));
}

// Slices whose tiles end within, at and past a step of 128 keys, as the kernels for 9 take them.
Call long_forest(DType dtype, const AttentionShape& shape) {
  Call call{dtype, shape, {}, {}, {}, {}};
  std::vector<int32_t> table;
  for (int32_t b = 0; b < 20; ++b) table.push_back(19 - b);
  call.add_slice(303, 0, table);
  table.resize(16);
  table.push_back(20);
  call.add_slice(3, 256, table);
  call.add_slice(128, 0, {21, 22, 23, 24, 25, 26, 27, 28});
  call.fill(11);
  return call;
}

void check_bf16(const Call& call, const std::vector<int>& capabilities) {
  const Result exact = run_cpu(call), rounded = run_reference(call, DType::kBFloat16);
  for (const int capability : capabilities) {
    emulation::set_compute_capability(capability);
    const Result forwards = run_cuda(call), backwards = run_cuda(call, ThreadOrder::kLastToFirst);
    check_rounding(forwards.out, exact.out, rounded.out);
    check_near(forwards.lse, exact.lse, 1e-5 * largest(exact.lse));
    check_rounding(forwards.dqkv, exact.dqkv, rounded.dqkv);
    CHECK(forwards.out == backwards.out && forwards.lse == backwards.lse && forwards.dqkv == backwards.dqkv);
  }
}

EMULATION_TEST(cuda_bf16_attention_rounds_as_it_must) {
  for (const AttentionShape& shape : {AttentionShape{2, 1, 36}, {6, 2, 64}, {5, 1, 128}})
    check_bf16(forest(DType::kBFloat16, shape), {8, 9});
}

EMULATION_TEST(cuda_bf16_attention_rounds_as_it_must_over_several_steps) {
  for (const AttentionShape& shape : {AttentionShape{2, 1, 64}, {1, 1, 128}})
    check_bf16(long_forest(DType::kBFloat16, shape), {9});
}

// ---- a row depends on its own sequence alone

// Sequence `number` of 150 tokens as slices that begin at the positions `starts`, after its `others`.
Call batch_of(DType dtype, const AttentionShape& shape, const std::vector<int64_t>& starts, bool among_others) {
  constexpr int64_t kLength = 150;
  Call call{dtype, shape, {}, {}, {}, {}};
  std::vector<int32_t> table;
  for (int32_t b = 0; b < 10; ++b) table.push_back(among_others ? 20 - b : b);
  if (among_others) call.add_slice(37, 0, {0, 1, 2});
  for (size_t i = 0; i < starts.size(); ++i)
    call.add_slice((i + 1 < starts.size() ? starts[i + 1] : kLength) - starts[i], starts[i], table);
  if (among_others) call.add_slice(45, 0, {5, 3, 4});
  call.fill(20);
  const std::vector<float> own = normals(30, kLength * shape.qkv_size());
  for (size_t i = 0; i < own.size(); ++i)
    call.qkv[i + static_cast<size_t>((among_others ? 37 : 0) * shape.qkv_size())] = round_to(dtype, own[i]);
  return call;
}

void check_rows_alone(DType dtype, const AttentionShape& shape) {
  const Result whole = run_cuda(batch_of(dtype, shape, {0}, false), ThreadOrder::kFirstToLast, false);
  const std::vector<int64_t> cuts[] = {{0, 64}, {0, 1, 77, 149}, {0, 53, 96}};
  for (const auto& starts : cuts) {
    for (const bool among_others : {false, true}) {
      const Result cut = run_cuda(batch_of(dtype, shape, starts, among_others), ThreadOrder::kFirstToLast, false);
      const auto first = static_cast<size_t>(among_others ? 37 * shape.num_heads : 0);
      const auto width = static_cast<size_t>(shape.head_dim);
      CHECK(std::memcmp(whole.out.data(), cut.out.data() + first * width, whole.out.size() * sizeof(float)) == 0);
      CHECK(std::memcmp(whole.lse.data(), cut.lse.data() + first, whole.lse.size() * sizeof(float)) == 0);
    }
  }
}

EMULATION_TEST(cuda_attention_rows_depend_on_their_sequence_alone) {
  check_rows_alone(DType::kFloat32, {4, 2, 20});
  for (const int capability : {8, 9}) {
    emulation::set_compute_capability(capability);
    for (const AttentionShape& shape : {AttentionShape{3, 1, 64}, {2, 1, 128}})
      check_rows_alone(DType::kBFloat16, shape);
  }
}

// ---- shared prefixes and bad input

// The gradient of a shared row is the sum over the sequences that hold it.
EMULATION_TEST(cuda_attention_sums_gradients_of_shared_prefixes) {
  const AttentionShape shape{2, 1, 64};
  constexpr int64_t kPrefix = 32, kOwn = 40;
  Call shared{DType::kFloat32, shape, {}, {}, {}, {}}, apart = shared;
  shared.add_slice(kPrefix + kOwn, 0, {0, 1, 2, 3, 4});
  shared.add_slice(kOwn, kPrefix, {0, 1, 5, 6, 7});
  shared.fill(40);
  apart.add_slice(kPrefix + kOwn, 0, {0, 1, 2, 3, 4});
  apart.add_slice(kPrefix + kOwn, 0, {5, 6, 7, 8, 9});
  apart.fill(40);
  const auto row_of = [](int64_t row) {
    return row < kPrefix + kOwn ? row : row < 2 * kPrefix + kOwn ? row - kPrefix - kOwn : row - kPrefix;
  };
  const int64_t width = shape.qkv_size(), out_width = shape.num_heads * shape.head_dim;
  for (int64_t row = 0; row < apart.rows(); ++row) {
    for (int64_t i = 0; i < width; ++i)
      apart.qkv[static_cast<size_t>(row * width + i)] = shared.qkv[static_cast<size_t>(row_of(row) * width + i)];
    const bool is_copy = row >= kPrefix + kOwn && row < 2 * kPrefix + kOwn;  // counts once
    for (int64_t i = 0; i < out_width; ++i)
      apart.dout[static_cast<size_t>(row * out_width + i)] =
          is_copy ? 0.0f : shared.dout[static_cast<size_t>(row_of(row) * out_width + i)];
  }
  const Result with_sharing = run_cuda(shared), without = run_cuda(apart);
  std::vector<float> summed(shared.qkv.size());
  for (int64_t row = 0; row < apart.rows(); ++row) {
    for (int64_t i = 0; i < width; ++i)
      summed[static_cast<size_t>(row_of(row) * width + i)] += without.dqkv[static_cast<size_t>(row * width + i)];
  }
  check_near(with_sharing.dqkv, summed, 1e-5 * largest(summed));
}

EMULATION_TEST(cuda_attention_takes_an_empty_batch_and_refuses_nonsense) {
  Call empty{DType::kFloat32, {2, 1, 64}, {}, {}, {}, {}};
  CHECK(run_cuda(empty).out.empty());
  Call wrong_heads{DType::kFloat32, {3, 2, 64}, {}, {}, {}, {}};
  CHECK_THROWS(run_cuda(wrong_heads));
  Call twice{DType::kFloat32, {1, 1, 8}, {}, {}, {}, {}};
  twice.add_slice(3, 0, {0});
  twice.add_slice(3, 0, {0});
  twice.fill(50);
  CHECK_THROWS(run_cuda(twice));
  Call moved{DType::kFloat32, {1, 1, 8}, {}, {}, {}, {}};
  moved.add_slice(16, 0, {0});
  moved.add_slice(3, 32, {1, 0, 2});
  moved.fill(60);
  CHECK_THROWS(run_cuda(moved));
  Call large{DType::kFloat32, {1, 1, 264}, {}, {}, {}, {}};
  large.add_slice(3, 0, {0});
  large.fill(70);
  CHECK_THROWS(run_cuda(large));
}

}  // namespace
