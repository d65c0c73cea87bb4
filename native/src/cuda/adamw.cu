// AdamW with decoupled decay, to the bit that of cpu/adamw.cc in fp32, and the gradient norm.
#include "cuda/adamw.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "cuda/run.h"

namespace wideseek::cuda {
namespace {

// ---- sum of squares: a grid of fixed size, then one block over the sums of its blocks

constexpr int kSumBlocks = 264;  // two for each multiprocessor of a GPU with 132
constexpr int kSumBlock = 512;
constexpr int kRunsInFlight = 4;  // of a thread

template <typename T>
constexpr int kRunLength = 16 / sizeof(T);

// The sum over all threads of a block of kSumBlock, in a fixed order, for thread 0.
__device__ __forceinline__ double block_sum(double value) {
  __shared__ double of_warps[kSumBlock / 32];
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  double total = 0;
  for (const double sum : of_warps) total += sum;
  return total;
}

template <typename T>
__global__ void __launch_bounds__(kSumBlock) sum_squares_kernel(double* sums, const T* values, int64_t count) {
  constexpr int kLength = kRunLength<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kSumBlock * kLength;
  double sum[kLength] = {};
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kSumBlock + threadIdx.x) * kLength; i < count;
       i += kRunsInFlight * step) {
    Run<T, kLength> runs[kRunsInFlight];
    WS_UNROLL
    for (int u = 0; u < kRunsInFlight; ++u) {
      runs[u] = load_run<kLength>(values + i + u * step, count - i - u * step, true);
    }
    WS_UNROLL
    for (const auto& run : runs) {
      WS_UNROLL
      for (int k = 0; k < kLength; ++k) {
        const double value = to_float(run.v[k]);
        sum[k] = fma(value, value, sum[k]);  // the product is exact in any case
      }
    }
  }
  for (int k = 1; k < kLength; ++k) sum[0] += sum[k];
  const double total = block_sum(sum[0]);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

__global__ void add_sums_kernel(double* total, const double* sums, int num_sums) {
  const double sum = block_sum(static_cast<int>(threadIdx.x) < num_sums ? sums[threadIdx.x] : 0.0);
  if (threadIdx.x == 0) *total = sum;
}
static_assert(kSumBlocks <= kSumBlock);

// ---- AdamW

struct Factors {
  float decay;           // 1 - learning_rate * weight_decay
  float step_size;       // learning_rate / (1 - beta1^t)
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float beta1, one_minus_beta1, beta2, one_minus_beta2;
  float gradient_scale;
};

Factors factors_of(const AdamWStep& step) {
  const double t = static_cast<double>(step.step);
  return {
      .decay = static_cast<float>(1 - step.learning_rate * step.weight_decay),
      .step_size = static_cast<float>(step.learning_rate / (1 - std::pow(step.beta1, t))),
      .inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, t))),
      .epsilon = static_cast<float>(step.epsilon),
      .beta1 = static_cast<float>(step.beta1),
      .one_minus_beta1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .one_minus_beta2 = static_cast<float>(1 - step.beta2),
      .gradient_scale = static_cast<float>(step.gradient_scale),
  };
}

constexpr int kBlock = 256;
constexpr int kLength = 4;  // consecutive elements of a thread

// An fp32 weight that holds a bf16 value.
struct RoundedFloat {
  float value;
};

template <typename T>
__device__ __forceinline__ T weight_from(float master) {
  if constexpr (std::is_same_v<T, RoundedFloat>) {
    return {to_float(from_float<BF16>(master))};
  } else {
    return from_float<T>(master);
  }
}

// `weights` is null where the weights are their own master.
template <typename W, typename G>
__global__ void __launch_bounds__(kBlock) adamw_kernel(W* weights, float* master, G* gradients, float* first_moment,
                                                       float* second_moment, int64_t count, Factors factors) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * kLength;
  const int64_t left = count - i;
  if (left <= 0) return;
  const Run<G, kLength> gradient_run = load_run<kLength>(gradients + i, left, true);
  Run<float, kLength> first = load_run<kLength>(first_moment + i, left, true);
  Run<float, kLength> second = load_run<kLength>(second_moment + i, left, true);
  Run<float, kLength> value = load_run<kLength>(master + i, left, true);
  Run<W, kLength> weight;
  WS_UNROLL
  for (int k = 0; k < kLength; ++k) {
    const float gradient = to_float(gradient_run.v[k]) * factors.gradient_scale;
    first.v[k] = __fmaf_rn(first.v[k], factors.beta1, gradient * factors.one_minus_beta1);
    second.v[k] = __fmaf_rn(second.v[k], factors.beta2, gradient * gradient * factors.one_minus_beta2);
    const float denominator = __fmaf_rn(__fsqrt_rn(second.v[k]), factors.inv_sqrt_bias2, factors.epsilon);
    value.v[k] = __fmaf_rn(-factors.step_size, __fdiv_rn(first.v[k], denominator), value.v[k] * factors.decay);
    weight.v[k] = weight_from<W>(value.v[k]);
  }
  store_run(first_moment + i, left, true, first);
  store_run(second_moment + i, left, true, second);
  store_run(master + i, left, true, value);
  if (weights != nullptr) store_run(weights + i, left, true, weight);
  store_run(gradients + i, left, true, Run<G, kLength>{});
}

template <typename W>
void launch_adamw(Stream stream, void* weights, float* master, int64_t count, const AdamWState& state,
                  const AdamWStep& step) {
  for (const void* array : std::initializer_list<const void*>{weights, master, state.gradients.data, state.first_moment,
                                                              state.second_moment}) {
    WS_CHECK(is_aligned(array, 16), kInternal, "adamw", "an array is not aligned to 16 bytes");
  }
  with_element_type(state.gradients.dtype, [&](auto type) {
    using G = decltype(type);
    launch(adamw_kernel<W, G>, {static_cast<unsigned>(ceil_div<int64_t>(count, kBlock * kLength)), kBlock}, stream,
           static_cast<W*>(weights), master, static_cast<G*>(state.gradients.data), state.first_moment,
           state.second_moment, count, factors_of(step));
  });
}

}  // namespace

int64_t sum_squares_scratch() { return kSumBlocks * sizeof(double) / sizeof(float); }

void sum_squares(Stream stream, double* sum, ConstTypedPointer values, int64_t count, float* scratch) {
  WS_CHECK(is_aligned(values.data, 16), kInternal, "sum_squares", "the values are not aligned to 16 bytes");
  auto* const sums = reinterpret_cast<double*>(scratch);
  with_element_type(values.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int64_t kBlockElements = kSumBlock * kRunLength<T>;
    const auto blocks = static_cast<int>(std::min<int64_t>(kSumBlocks, ceil_div(count, kBlockElements)));
    launch(sum_squares_kernel<T>, {static_cast<unsigned>(blocks), kSumBlock}, stream, sums,
           static_cast<const T*>(values.data), count);
    launch(add_sums_kernel, {1, kSumBlock}, stream, sum, sums, blocks);
  });
}

void adamw_matrix(Stream stream, TypedPointer weights, int64_t count, const AdamWState& state, const AdamWStep& step) {
  if (state.master == nullptr) {
    launch_adamw<float>(stream, nullptr, weights.fp32(), count, state, step);
  } else {
    with_element_type(weights.dtype, [&](auto type) {
      launch_adamw<decltype(type)>(stream, weights.data, state.master, count, state, step);
    });
  }
}

void adamw_vector(Stream stream, float* weights, DType dtype, int64_t count, const AdamWState& state,
                  const AdamWStep& step) {
  if (state.master != nullptr && dtype == DType::kBFloat16) {
    launch_adamw<RoundedFloat>(stream, weights, state.master, count, state, step);
  } else {
    adamw_matrix(stream, weights, count, state, step);
  }
}

}  // namespace wideseek::cuda
