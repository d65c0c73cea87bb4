// Rows of biases.
#include "cuda/bias.h"

#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kBlock = 128;

template <typename T>
__global__ void fill_kernel(T* out, const float* bias, int64_t N) {
  const int64_t i = (static_cast<int64_t>(blockIdx.y) * kBlock + threadIdx.x) * kPack;
  if (i < N) store_pack(out + static_cast<int64_t>(blockIdx.x) * N, i, N, load_pack(bias, i, N));
}

}  // namespace

void fill_with_bias(Stream stream, TypedPointer out, const float* bias, int64_t T, int64_t N) {
  const auto column_blocks = static_cast<unsigned>(ceil_div<int64_t>(N, kBlock * kPack));
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(fill_kernel<E>, {dim3(static_cast<unsigned>(T), column_blocks), kBlock}, stream, static_cast<E*>(out.data),
           bias, N);
  });
}

}  // namespace wideseek::cuda
