// Copies of rows and vectors: a warp takes a row, or a run of columns, a few packs at a time.
#include "cuda/rows.h"

#include <algorithm>

#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kUnroll = 4;  // packs of a thread in flight
constexpr int kWarpColumns = kWarp * kPack;

// The bits as they are, or the nearest number of the other type.
template <typename To, typename From>
__device__ __forceinline__ RawPack<To> convert_pack(const RawPack<From>& raw) {
  if constexpr (std::is_same_v<To, From>) {
    return raw;
  } else {
    return narrow<To>(widen(raw));
  }
}

// Row r of `out` or, with kScatter, row rows[r]; of `x` the other way round.
template <typename To, typename From, bool kScatter>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(To* __restrict__ out, const From* __restrict__ x,
                                                             const int32_t* __restrict__ rows, int64_t R, int64_t C) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (r >= R) return;
  const From* from = x + (kScatter ? r : rows[r]) * C;
  To* to = out + (kScatter ? rows[r] : r) * C;
  for (int64_t first = threadIdx.x % kWarp * kPack; first < C; first += kUnroll * kWarpColumns) {
    RawPack<From> held[kUnroll];
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) held[u] = load_raw(from, first + u * kWarpColumns, C);
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) store_raw(to, first + u * kWarpColumns, C, convert_pack<To>(held[u]));
  }
}

template <bool kScatter>
void copy_rows(Stream stream, TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C) {
  with_element_type(out.dtype, [&](auto to) {
    with_element_type(x.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      launch(copy_rows_kernel<To, From, kScatter>, {static_cast<unsigned>(ceil_div<int64_t>(R, kWarps)), kThreads},
             stream, static_cast<To*>(out.data), static_cast<const From*>(x.data), rows, R, C);
    });
  });
}

// A warp takes a row; out may be residual.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    combine_rows_kernel(T* out, const T* residual, const T* __restrict__ values, const int32_t* __restrict__ rows,
                        const float* __restrict__ shares, int64_t num_rows, int64_t k, int64_t C) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (t >= num_rows) return;
  for (int64_t i = threadIdx.x % kWarp * kPack; i < C; i += kWarpColumns) {
    Pack total = load_pack(residual + t * C, i, C);
    for (int64_t first = 0; first < k; first += kUnroll) {
      RawPack<T> held[kUnroll];
      WS_UNROLL
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t j = t * k + std::min(first + u, k - 1);
        held[u] = load_raw(values + rows[j] * C, i, C);
      }
      WS_UNROLL
      for (int u = 0; u < kUnroll; ++u) {
        if (first + u >= k) break;
        const Pack pack = widen(held[u]);
        const float share = shares[t * k + first + u];
        WS_UNROLL
        for (int n = 0; n < kPack; ++n) total.v[n] = __fmaf_rn(pack.v[n], share, total.v[n]);
      }
    }
    store_pack(out + t * C, i, C, total);
  }
}

// Elements [0, count), of which `packed`, a multiple of 8, are taken eight at a time.
template <typename To, typename From>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(To* __restrict__ out, const From* __restrict__ source, int64_t packed, int64_t count) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kUnroll * kThreads + threadIdx.x) * kPack;
  RawPack<From> held[kUnroll];
  WS_UNROLL
  for (int u = 0; u < kUnroll; ++u) held[u] = load_raw(source, first + u * kThreads * kPack, packed);
  WS_UNROLL
  for (int u = 0; u < kUnroll; ++u) {
    store_raw(out, first + u * kThreads * kPack, packed, convert_pack<To>(held[u]));
  }
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = packed + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) {
    out[i] = from_float<To>(to_float(source[i]));
  }
}

template <typename T>
__global__ void store_vector_kernel(float* out, const float* source, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) out[i] = to_float(from_float<T>(source[i]));
}

}  // namespace

void gather_rows(Stream stream, TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C) {
  copy_rows<false>(stream, out, x, rows, R, C);
}

void scatter_rows(Stream stream, TypedPointer x, ConstTypedPointer values, const int32_t* rows, int64_t R, int64_t C) {
  copy_rows<true>(stream, x, values, rows, R, C);
}

void combine_rows(Stream stream, TypedPointer out, ConstTypedPointer residual, ConstTypedPointer values,
                  const int32_t* rows, const float* shares, int64_t T, int64_t k, int64_t C) {
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(combine_rows_kernel<E>, {static_cast<unsigned>(ceil_div<int64_t>(T, kWarps)), kThreads}, stream,
           static_cast<E*>(out.data), static_cast<const E*>(residual.data), static_cast<const E*>(values.data), rows,
           shares, T, k, C);
  });
}

void convert(Stream stream, TypedPointer out, ConstTypedPointer source, int64_t count) {
  const bool aligned =
      reinterpret_cast<uintptr_t>(out.data) % 16 == 0 && reinterpret_cast<uintptr_t>(source.data) % 16 == 0;
  const int64_t packed = aligned ? count / kPack * kPack : 0;
  with_element_type(out.dtype, [&](auto to) {
    with_element_type(source.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      launch(convert_kernel<To, From>,
             {static_cast<unsigned>(ceil_div<int64_t>(count, kUnroll * kThreads * kPack)), kThreads}, stream,
             static_cast<To*>(out.data), static_cast<const From*>(source.data), packed, count);
    });
  });
}

void store_vector(Stream stream, float* out, const float* source, int64_t count, DType dtype) {
  with_element_type(dtype, [&](auto type) {
    launch(store_vector_kernel<decltype(type)>, {static_cast<unsigned>(ceil_div<int64_t>(count, kThreads)), kThreads},
           stream, out, source, count);
  });
}

}  // namespace wideseek::cuda
