// Rows of biases, and sums of rows.
#include "cuda/bias.h"

#include <algorithm>

#include "cuda/reduce.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kBlock = 128;

template <typename T>
__global__ void fill_kernel(T* out, const float* bias, int64_t N) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const int64_t i = (static_cast<int64_t>(blockIdx.y) * kBlock + threadIdx.x) * kPack;
  if (i < N) store_pack(out + static_cast<int64_t>(blockIdx.x) * N, i, N, load_pack(bias, i, N));
}

constexpr int kUnroll = 4;  // packs of a thread in flight

// A warp sums 256 columns over the rows of one group: g, g + groups, ...
constexpr int64_t kGroups = 264;

template <typename T>
__global__ void __launch_bounds__(kBlock) group_sums_kernel(float* __restrict__ partial, const T* __restrict__ dout,
                                                            int64_t rows, int64_t groups, int64_t N) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) * kPack;
  const int64_t group = blockIdx.y;
  Pack total{};
  for (int64_t first = group; first < rows; first += kUnroll * groups) {
    RawPack<T> held[kUnroll];
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t row = first + u * groups;
      held[u] = load_raw(dout + std::min(row, rows - 1) * N, row < rows ? i : N, N);
    }
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const Pack values = widen(held[u]);
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) total.v[k] += values.v[k];
    }
  }
  store_pack(partial + group * N, i, N, total);
}

}  // namespace

void fill_with_bias(Stream stream, TypedPointer out, const float* bias, int64_t T, int64_t N) {
  const auto column_blocks = static_cast<unsigned>(ceil_div<int64_t>(N, kBlock * kPack));
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch_early(fill_kernel<E>, {dim3(static_cast<unsigned>(T), column_blocks), kBlock}, stream,
                 static_cast<E*>(out.data), bias, N);
  });
}

int64_t bias_backward_scratch(int64_t N) { return kGroups * N; }

void bias_backward(Stream stream, TypedPointer dbias, ConstTypedPointer dout, int64_t T, int64_t N, float* scratch) {
  const int64_t groups = std::min(T, kGroups);
  with_element_type(dout.dtype, [&](auto type) {
    using E = decltype(type);
    launch(group_sums_kernel<E>,
           {dim3(static_cast<unsigned>(ceil_div<int64_t>(N, kBlock * kPack)), static_cast<unsigned>(groups)), kBlock},
           stream, scratch, static_cast<const E*>(dout.data), T, groups, N);
  });
  add_column_sums(stream, dbias, scratch, groups, N);
}

}  // namespace wideseek::cuda
