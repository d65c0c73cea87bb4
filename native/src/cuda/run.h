// Runs of consecutive elements, read and written by one instruction where they are whole and aligned.
#pragma once

#include "cuda/platform.h"

namespace wideseek::cuda {

template <typename T, int N>
struct alignas(sizeof(T) * N) Run {
  T v[N];
};

// The first `left` elements of p[0, N), the rest 0; left may be more than N or less than 0. `aligned`: p is a multiple
// of the size of a run.
template <int N, typename T>
__device__ __forceinline__ Run<T, N> load_run(const T* p, int64_t left, bool aligned) {
  Run<T, N> run{};
  if (aligned && left >= N) {
    run = *reinterpret_cast<const Run<T, N>*>(p);
  } else {
    WS_UNROLL
    for (int k = 0; k < N; ++k) {
      if (k < left) run.v[k] = p[k];
    }
  }
  return run;
}

template <int N, typename T>
__device__ __forceinline__ void store_run(T* p, int64_t left, bool aligned, const Run<T, N>& run) {
  if (aligned && left >= N) {
    *reinterpret_cast<Run<T, N>*>(p) = run;
  } else {
    WS_UNROLL
    for (int k = 0; k < N; ++k) {
      if (k < left) p[k] = run.v[k];
    }
  }
}

inline bool is_aligned(const void* pointer, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
}

}  // namespace wideseek::cuda
