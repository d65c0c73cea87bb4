// Sums of columns.
#include "cuda/reduce.h"

namespace wideseek::cuda {
namespace {

constexpr int kBlock = 256;

template <typename T>
__global__ void add_column_sums_kernel(T* out, const float* partial, int64_t rows, int64_t C) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (c >= C) return;
  float total = to_float(out[c]);
  for (int64_t row = 0; row < rows; ++row) total += partial[row * C + c];
  out[c] = from_float<T>(total);
}

}  // namespace

void add_column_sums(Stream stream, TypedPointer out, const float* partial, int64_t rows, int64_t C) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(add_column_sums_kernel<E>, {static_cast<unsigned>(ceil_div<int64_t>(C, kBlock)), kBlock}, stream,
           static_cast<E*>(out.data), partial, rows, C);
  });
}

}  // namespace wideseek::cuda
