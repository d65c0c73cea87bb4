// RMSNorm forward in the summation order of the project, and backward with a fixed number of row groups.
#include "cuda/rms_norm.h"

#include <algorithm>

#include "cuda/reduce.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

template <typename T>
__global__ void forward_kernel(T* out, const T* x, const float* weight, int64_t rows, int64_t C, float eps) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlockRows + threadIdx.x / kRowThreads;
  const int lane = threadIdx.x % kRowThreads;
  // Threads past the last row repeat it, so that every warp is whole; they store what the row's own threads store.
  const int64_t row = first < rows ? first : rows - 1;
  const float mean = __fdiv_rn(row_sum_squares(x + row * C, C, lane), static_cast<float>(C));
  const float rstd = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
  for (int64_t i = lane * kPack; i < C; i += kRowStep) {
    const Pack w = load_pack(weight, i, C);
    Pack value = load_pack(x + row * C, i, C);
    for (int k = 0; k < kPack; ++k) value.v[k] = __fmul_rn(__fmul_rn(value.v[k], rstd), w.v[k]);
    if (first < rows) store_pack(out + row * C, i, C, value);
  }
}

// One block takes the rows of one group after the other; thread c holds the packs of columns 8 (c + block * p).
// With y = x rstd and g = dout weight: dx += rstd (g - y mean(g y)), dweight = sum over rows of dout y.
constexpr int kGroups = 264;  // two for each multiprocessor of a GPU with 132
constexpr int kBackwardBlock = 256;
constexpr int kMaxPacks = 4;  // of a thread: rows up to 8192 elements

template <typename T>
__global__ void backward_kernel(T* dx, float* partial, const T* dout, const T* x, const float* weight, int64_t rows,
                                int64_t C, float eps) {
  Pack dweight[kMaxPacks] = {};
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x_row = x + row * C;
    const T* dout_row = dout + row * C;
    float sum_squares = 0, dot = 0;
    for (int p = 0; p < kMaxPacks; ++p) {
      const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
      if (i >= C) break;
      const Pack v = load_pack(x_row, i, C), d = load_pack(dout_row, i, C), w = load_pack(weight, i, C);
      for (int k = 0; k < kPack; ++k) {
        sum_squares = __fmaf_rn(v.v[k], v.v[k], sum_squares);
        dot = __fmaf_rn(d.v[k] * w.v[k], v.v[k], dot);
      }
    }
    sum_squares = block_sum(sum_squares);
    dot = block_sum(dot);
    const float rstd = 1.0f / __fsqrt_rn(sum_squares / static_cast<float>(C) + eps);
    const float shrink = -dot * rstd * rstd / static_cast<float>(C);
    for (int p = 0; p < kMaxPacks; ++p) {
      const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
      if (i >= C) break;
      const Pack v = load_pack(x_row, i, C), d = load_pack(dout_row, i, C), w = load_pack(weight, i, C);
      Pack value = load_pack(dx + row * C, i, C);
      for (int k = 0; k < kPack; ++k) {
        value.v[k] += rstd * __fmaf_rn(v.v[k], shrink, d.v[k] * w.v[k]);
        dweight[p].v[k] = __fmaf_rn(d.v[k], v.v[k] * rstd, dweight[p].v[k]);
      }
      store_pack(dx + row * C, i, C, value);
    }
  }
  for (int p = 0; p < kMaxPacks; ++p) {
    const int64_t i = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * kPack;
    if (i < C) store_pack(partial + blockIdx.x * C, i, C, dweight[p]);
  }
}

}  // namespace

void rms_norm_forward(Stream stream, TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                      float eps) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(forward_kernel<E>, row_launch(T), stream, static_cast<E*>(out.data), static_cast<const E*>(x.data), weight,
           T, C, eps);
  });
}

int64_t rms_norm_backward_scratch(int64_t C) { return kGroups * C; }

void rms_norm_backward(Stream stream, TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout,
                       ConstTypedPointer x, const float* weight, int64_t T, int64_t C, float eps, float* scratch) {
  WS_CHECK(C <= kMaxPacks * kBackwardBlock * kPack, kUnsupported, "rms_norm_backward",
           "rows of " + std::to_string(C) + " elements; the limit is " +
               std::to_string(kMaxPacks * kBackwardBlock * kPack));
  const auto groups = static_cast<unsigned>(std::min<int64_t>(T, kGroups));
  with_element_type(dx.dtype, [&](auto type) {
    using E = decltype(type);
    launch(backward_kernel<E>, {groups, kBackwardBlock}, stream, static_cast<E*>(dx.data), scratch,
           static_cast<const E*>(dout.data), static_cast<const E*>(x.data), weight, T, C, eps);
  });
  add_column_sums(stream, dweight, scratch, groups, C);
}

}  // namespace wideseek::cuda
