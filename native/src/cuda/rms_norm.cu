// RMSNorm forward in the summation order of the project, and backward with a fixed number of row groups.
#include "cuda/rms_norm.h"

#include <algorithm>
#include <string>

#include "cuda/elementwise.h"
#include "cuda/reduce.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kWarp = 32;

// ---- forward. A warp takes a row: in every 64 elements lane j has the two from 2 j, which are always of the same two
// of the 64 running sums.

constexpr int kForwardStep = 2 * kWarp;  // elements between two pairs of a thread
constexpr int kForwardRows = 4;          // of a block

// Two neighbours as they are in memory.
template <typename T>
using Pair = std::conditional_t<std::is_same_v<T, float>, uint64_t, uint32_t>;

struct TwoFloats {
  float first, second;
};

template <typename T>
__device__ __forceinline__ TwoFloats widen_pair(Pair<T> pair) {
  if constexpr (std::is_same_v<T, float>) {
    return {std::bit_cast<float>(static_cast<uint32_t>(pair)), std::bit_cast<float>(static_cast<uint32_t>(pair >> 32))};
  } else {
    return {to_float(BF16{static_cast<uint16_t>(pair)}), to_float(BF16{static_cast<uint16_t>(pair >> 16)})};
  }
}

template <typename T>
__device__ __forceinline__ Pair<T> narrow_pair(float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<uint64_t>(std::bit_cast<uint32_t>(second)) << 32 | std::bit_cast<uint32_t>(first);
  } else {
    return two_bf16(first, second);
  }
}

// Elements i and i + 1 of a row of n; 0 past its end. A row of an odd number of elements is not aligned for pairs.
template <typename T>
__device__ __forceinline__ Pair<T> load_pair(const T* row, int64_t i, int64_t n) {
  if (i >= n) return 0;
  if (n % 2 == 0) return *reinterpret_cast<const Pair<T>*>(row + i);
  return narrow_pair<T>(to_float(row[i]), i + 1 < n ? to_float(row[i + 1]) : 0.0f);
}

template <typename T>
__device__ __forceinline__ void store_pair(T* row, int64_t i, int64_t n, float first, float second) {
  if (i >= n) return;
  if (n % 2 == 0) {
    *reinterpret_cast<Pair<T>*>(row + i) = narrow_pair<T>(first, second);
  } else {
    row[i] = from_float<T>(first);
    if (i + 1 < n) row[i + 1] = from_float<T>(second);
  }
}

// The sum over a row of the two running sums of each lane, in the tree of sum_of; all lanes get it.
__device__ __forceinline__ float row_sum_of_pairs(float first, float second) {
  for (const int mask : {8, 16, 4, 2, 1}) {  // accumulators (0 + 1) + (2 + 3), then lanes i and i + 8, + 4, + 2
    first += __shfl_xor_sync(kWholeWarp, first, mask);
    second += __shfl_xor_sync(kWholeWarp, second, mask);
  }
  return first + second;
}

// kSteps > 0: the row, of at most 64 * kSteps elements, stays in registers between the two passes, and all of its loads
// are in flight together. kSteps = 0: any row, read twice.
template <typename T, int kSteps>
__global__ void __launch_bounds__(kForwardRows* kWarp)
    forward_kernel(T* out, const T* x, const float* __restrict__ weight, int64_t rows, int64_t C, float eps) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kForwardRows + threadIdx.x / kWarp;
  if (row >= rows) return;
  const T* x_row = x + row * C;
  T* out_row = out + row * C;
  const int first = threadIdx.x % kWarp * 2;
  Pair<T> held[kSteps > 0 ? kSteps : 1];
  float sums[2] = {0, 0};
  const auto add = [&](Pair<T> pair) {
    const TwoFloats two = widen_pair<T>(pair);
    sums[0] = __fadd_rn(sums[0], __fmul_rn(two.first, two.first));
    sums[1] = __fadd_rn(sums[1], __fmul_rn(two.second, two.second));
  };
  if constexpr (kSteps > 0) {
    WS_UNROLL
    for (int s = 0; s < kSteps; ++s) held[s] = load_pair(x_row, s * kForwardStep + first, C);
    WS_UNROLL
    for (int s = 0; s < kSteps; ++s) add(held[s]);
  } else {
    for (int64_t i = first; i < C; i += kForwardStep) add(load_pair(x_row, i, C));
  }
  const float rstd = rstd_for<T>(row_sum_of_pairs(sums[0], sums[1]), C, eps);
  const auto scale = [&](int64_t i, Pair<T> pair) {
    const TwoFloats two = widen_pair<T>(pair), w = widen_pair<float>(load_pair(weight, i, C));
    store_pair(out_row, i, C, __fmul_rn(__fmul_rn(two.first, rstd), w.first),
               __fmul_rn(__fmul_rn(two.second, rstd), w.second));
  };
  if constexpr (kSteps > 0) {
    WS_UNROLL
    for (int s = 0; s < kSteps; ++s) scale(s * kForwardStep + first, held[s]);
  } else {
    for (int64_t i = first; i < C; i += kForwardStep) scale(i, load_pair(x_row, i, C));
  }
}

template <typename T, int kSteps>
void launch_forward(Stream stream, TypedPointer out, ConstTypedPointer x, const float* weight, int64_t rows, int64_t C,
                    float eps) {
  launch_early(forward_kernel<T, kSteps>,
               {static_cast<unsigned>(ceil_div<int64_t>(rows, kForwardRows)), kForwardRows * kWarp}, stream,
               static_cast<T*>(out.data), static_cast<const T*>(x.data), weight, rows, C, eps);
}

// ---- backward. One block takes the rows of one group after the other; a thread has the packs of the columns
// 8 (threadIdx + p * blockDim). With y = x rstd and g = dout weight: dx += rstd (g - y mean(g y)), dweight = sum over
// rows of dout y.

constexpr int kPacks = 2;  // of a thread
constexpr int kMaxThreads = 512;
static_assert(kMaxNormColumns == int64_t{kMaxThreads} * kPacks * kPack);

unsigned backward_threads(int64_t C) {
  return static_cast<unsigned>(ceil_div<int64_t>(C, kPacks * kPack * kWarp) * kWarp);
}

// As many as run at one time on a GPU of 132 multiprocessors, where registers end at 704 threads of one. Fixed, since
// the sums depend on it.
int64_t backward_groups(int64_t C) { return 132 * std::max<int64_t>(1, 704 / backward_threads(C)); }

// Both sums over the threads of the block, in a fixed order. `partial` is shared memory that the last call did not use:
// its readers may still be at work.
__device__ __forceinline__ TwoFloats block_sums(TwoFloats value, TwoFloats* partial) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    value.first += __shfl_xor_sync(kWholeWarp, value.first, mask);
    value.second += __shfl_xor_sync(kWholeWarp, value.second, mask);
  }
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  TwoFloats total = {0, 0};
  for (unsigned warp = 0; warp < blockDim.x / kWarp; ++warp) {
    total.first += partial[warp].first;
    total.second += partial[warp].second;
  }
  return total;
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads)
    backward_kernel(T* __restrict__ dx, float* __restrict__ partial, const T* __restrict__ dout,
                    const T* __restrict__ x, const float* __restrict__ weight, int64_t rows, int64_t C, float eps) {
  __shared__ TwoFloats sums[2][kWarp];
  Pack dweight[kPacks] = {};
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    RawPack<T> x_held[kPacks], dout_held[kPacks], dx_held[kPacks];
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
      x_held[p] = load_raw(x + row * C, i, C);
      dout_held[p] = load_raw(dout + row * C, i, C);
      dx_held[p] = load_raw(dx + row * C, i, C);
    }
    TwoFloats sum = {0, 0};  // of squares, and of g x
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
      const Pack v = widen(x_held[p]), d = widen(dout_held[p]), w = load_pack(weight, i, C);
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) {
        sum.first = __fmaf_rn(v.v[k], v.v[k], sum.first);
        sum.second = __fmaf_rn(d.v[k] * w.v[k], v.v[k], sum.second);
      }
    }
    sum = block_sums(sum, sums[parity]);
    const float rstd = rstd_for<T>(sum.first, C, eps);
    const float shrink = -sum.second * rstd * rstd / static_cast<float>(C);
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
      const Pack v = widen(x_held[p]), d = widen(dout_held[p]), w = load_pack(weight, i, C);
      Pack value = widen(dx_held[p]);
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) {
        value.v[k] += rstd * __fmaf_rn(v.v[k], shrink, d.v[k] * w.v[k]);
        dweight[p].v[k] = __fmaf_rn(d.v[k], v.v[k] * rstd, dweight[p].v[k]);
      }
      store_pack(dx + row * C, i, C, value);
    }
  }
  WS_UNROLL
  for (int p = 0; p < kPacks; ++p) {
    const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
    store_pack(partial + blockIdx.x * C, i, C, dweight[p]);
  }
}

}  // namespace

void rms_norm_forward(Stream stream, TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                      float eps) {
  // A kernel for each hidden size of the Qwen3 models up to 8B; more would only cost compile time.
  const bool held = out.dtype == DType::kBFloat16 && C % 2 == 0;
  const auto run = !held ? (out.dtype == DType::kBFloat16 ? launch_forward<BF16, 0> : launch_forward<float, 0>)
                   : C <= 16 * kForwardStep ? launch_forward<BF16, 16>
                   : C <= 32 * kForwardStep ? launch_forward<BF16, 32>
                   : C <= 40 * kForwardStep ? launch_forward<BF16, 40>
                   : C <= 64 * kForwardStep ? launch_forward<BF16, 64>
                                            : launch_forward<BF16, 0>;
  run(stream, out, x, weight, T, C, eps);
}

int64_t rms_norm_backward_scratch(int64_t C) { return backward_groups(C) * C; }

void rms_norm_backward(Stream stream, TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout,
                       ConstTypedPointer x, const float* weight, int64_t T, int64_t C, float eps, float* scratch) {
  WS_CHECK(C <= kMaxNormColumns, kUnsupported, "rms_norm_backward",
           "rows of " + std::to_string(C) + " elements; the limit is " + std::to_string(kMaxNormColumns));
  const auto groups = static_cast<unsigned>(std::min(T, backward_groups(C)));
  with_element_type(dx.dtype, [&](auto type) {
    using E = decltype(type);
    launch(backward_kernel<E>, {groups, backward_threads(C)}, stream, static_cast<E*>(dx.data), scratch,
           static_cast<const E*>(dout.data), static_cast<const E*>(x.data), weight, T, C, eps);
  });
  add_column_sums(stream, dweight, scratch, groups, C);
}

}  // namespace wideseek::cuda
