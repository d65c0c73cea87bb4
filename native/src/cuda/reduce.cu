// Sums of columns.
#include "cuda/reduce.h"

namespace wideseek::cuda {
namespace {

constexpr int kColumns = 32;  // of a block: one for each lane of a warp
constexpr int kWarps = 32;
constexpr int kUnroll = 8;

// Warp w sums rows w, w + 32, ...; then the warps' sums are added in order. One block walks few rows this way: there
// are too few columns to fill the device otherwise.
template <typename T>
__global__ void add_column_sums_kernel(T* out, const float* __restrict__ partial, int64_t rows, int64_t C) {
  __shared__ float sums[kWarps][kColumns];
  const int lane = threadIdx.x % kColumns;
  const int warp = threadIdx.x / kColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  float total = 0;
  for (int64_t first = warp; first < rows; first += kWarps * kUnroll) {
    float values[kUnroll];
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t row = first + u * kWarps;
      values[u] = row < rows && c < C ? partial[row * C + c] : 0.0f;
    }
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) total += values[u];
  }
  sums[warp][lane] = total;
  __syncthreads();
  if (warp != 0 || c >= C) return;
  for (int w = 1; w < kWarps; ++w) total += sums[w][lane];
  out[c] = from_float<T>(to_float(out[c]) + total);
}

}  // namespace

void add_column_sums(Stream stream, TypedPointer out, const float* partial, int64_t rows, int64_t C) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(add_column_sums_kernel<E>, {static_cast<unsigned>(ceil_div<int64_t>(C, kColumns)), kWarps * kColumns},
           stream, static_cast<E*>(out.data), partial, rows, C);
  });
}

}  // namespace wideseek::cuda
