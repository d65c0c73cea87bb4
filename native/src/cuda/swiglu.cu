// SwiGLU: one thread takes two packs of a row, a block's breadth apart, so that their loads are in flight together.
#include "cuda/swiglu.h"

#include <algorithm>

#include "cuda/elementwise.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPacks = 2;  // of a thread in a row
constexpr int kColumns = kThreads * kPacks * kPack;

__device__ __forceinline__ int64_t column_of(int p) {
  return static_cast<int64_t>(blockIdx.x) * kColumns + (p * kThreads + static_cast<int>(threadIdx.x)) * kPack;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* __restrict__ out, const T* __restrict__ gate_up, int64_t rows, int64_t F) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const T* gate_row = gate_up + row * 2 * F;
    RawPack<T> gate_held[kPacks], up_held[kPacks];
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      gate_held[p] = load_raw(gate_row, column_of(p), F);
      up_held[p] = load_raw(gate_row + F, column_of(p), F);
    }
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      Pack gate = widen(gate_held[p]);
      const Pack up = widen(up_held[p]);
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) {
        gate.v[k] = __fmul_rn(__fmul_rn(gate.v[k], sigmoid_for<T>(gate.v[k])), up.v[k]);
      }
      store_pack(out + row * F, column_of(p), F, gate);
    }
  }
}

// silu'(g) = s + g s (1 - s), s = sigmoid(g).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(T* __restrict__ gate_up, const T* __restrict__ dout, int64_t rows, int64_t F) {
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    T* gate_row = gate_up + row * 2 * F;
    RawPack<T> gate_held[kPacks], up_held[kPacks], dout_held[kPacks];
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      gate_held[p] = load_raw(gate_row, column_of(p), F);
      up_held[p] = load_raw(gate_row + F, column_of(p), F);
      dout_held[p] = load_raw(dout + row * F, column_of(p), F);
    }
    WS_UNROLL
    for (int p = 0; p < kPacks; ++p) {
      Pack gate = widen(gate_held[p]), up = widen(up_held[p]);
      const Pack d = widen(dout_held[p]);
      WS_UNROLL
      for (int k = 0; k < kPack; ++k) {
        const float s = sigmoid_for<T>(gate.v[k]);
        const float silu = __fmul_rn(gate.v[k], s);
        gate.v[k] = __fmul_rn(__fmul_rn(d.v[k], up.v[k]), __fmaf_rn(silu, __fadd_rn(1.0f, -s), s));
        up.v[k] = __fmul_rn(d.v[k], silu);
      }
      store_pack(gate_row, column_of(p), F, gate);
      store_pack(gate_row + F, column_of(p), F, up);
    }
  }
}

Launch launch_of(int64_t T, int64_t F) {
  constexpr int64_t kMaxGridY = 65535;
  return {dim3(static_cast<unsigned>(ceil_div<int64_t>(F, kColumns)), static_cast<unsigned>(std::min(T, kMaxGridY))),
          kThreads};
}

}  // namespace

void swiglu_forward(Stream stream, TypedPointer out, ConstTypedPointer gate_up, int64_t T, int64_t F) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch_early(forward_kernel<E>, launch_of(T, F), stream, static_cast<E*>(out.data),
                 static_cast<const E*>(gate_up.data), T, F);
  });
}

void swiglu_backward(Stream stream, TypedPointer gate_up, ConstTypedPointer dout, int64_t T, int64_t F) {
  with_element_type(gate_up.dtype, [&](auto type) {
    using E = decltype(type);
    launch(backward_kernel<E>, launch_of(T, F), stream, static_cast<E*>(gate_up.data), static_cast<const E*>(dout.data),
           T, F);
  });
}

}  // namespace wideseek::cuda
