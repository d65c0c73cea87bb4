// Rows spread over threads so that loads are wide and sums still come in THE summation order of the project
// (cpu/vector_math.h, sum_of): element i of a row adds to lane i % 16 of accumulator (i / 16) % 4. Eight threads share a
// row; in every 64 elements thread j holds the eight consecutive ones from 8 j, which are always of the same lanes.
#pragma once

#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int kRowThreads = 8;
constexpr int kPack = 8;                          // consecutive elements of one thread
constexpr int kRowStep = kRowThreads * kPack;     // elements between two packs of a thread
constexpr int kRowBlock = 128;                    // threads of a block
constexpr int kBlockRows = kRowBlock / kRowThreads;
constexpr unsigned kWholeWarp = 0xffffffffu;

inline Launch row_launch(int64_t rows) {
  return {static_cast<unsigned>(ceil_div<int64_t>(rows, kBlockRows)), kRowBlock};
}

// Eight floats; those at or past the end of the row are 0.
struct Pack {
  float v[kPack];
};

// Elements [i, i + 8) of a row of n. Rows of a multiple of 8 elements are read 16 bytes at a time.
template <typename T>
__device__ __forceinline__ Pack load_pack(const T* row, int64_t i, int64_t n) {
  Pack pack;
  if (n % kPack == 0) {
    alignas(16) T values[kPack];
    constexpr int kWords = kPack * sizeof(T) / sizeof(uint4);
    for (int w = 0; w < kWords; ++w) {
      reinterpret_cast<uint4*>(values)[w] = i < n ? reinterpret_cast<const uint4*>(row + i)[w] : uint4{0, 0, 0, 0};
    }
    for (int k = 0; k < kPack; ++k) pack.v[k] = to_float(values[k]);
  } else {
    for (int k = 0; k < kPack; ++k) pack.v[k] = i + k < n ? to_float(row[i + k]) : 0.0f;
  }
  return pack;
}

template <typename T>
__device__ __forceinline__ void store_pack(T* row, int64_t i, int64_t n, const Pack& pack) {
  if (n % kPack == 0) {
    if (i >= n) return;
    alignas(16) T values[kPack];
    for (int k = 0; k < kPack; ++k) values[k] = from_float<T>(pack.v[k]);
    constexpr int kWords = kPack * sizeof(T) / sizeof(uint4);
    for (int w = 0; w < kWords; ++w) reinterpret_cast<uint4*>(row + i)[w] = reinterpret_cast<const uint4*>(values)[w];
  } else {
    for (int k = 0; k < kPack; ++k) {
      if (i + k < n) row[i + k] = from_float<T>(pack.v[k]);
    }
  }
}

// The sum over a row of the eight lane sums of each of its threads. All threads of the warp call it; all get the sum.
__device__ __forceinline__ float row_sum(Pack lanes) {
  for (int mask = 2; mask <= 4; mask *= 2) {  // accumulators: (0 + 1) + (2 + 3)
    for (int k = 0; k < kPack; ++k) lanes.v[k] += __shfl_xor_sync(kWholeWarp, lanes.v[k], mask);
  }
  for (int k = 0; k < kPack; ++k) lanes.v[k] += __shfl_xor_sync(kWholeWarp, lanes.v[k], 1);  // lanes i and i + 8
  for (int half = kPack / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) lanes.v[k] += lanes.v[k + half];
  }
  return lanes.v[0];
}

__device__ __forceinline__ float row_max(float value) {
  for (int mask = 1; mask < kRowThreads; mask *= 2) {
    const float other = __shfl_xor_sync(kWholeWarp, value, mask);
    value = value > other ? value : other;
  }
  return value;
}

// Sum of squares of a row, by its threads. `lane` is the thread's place in the row.
template <typename T>
__device__ __forceinline__ float row_sum_squares(const T* row, int64_t n, int lane) {
  Pack sums{};
  for (int64_t i = lane * kPack; i < n; i += kRowStep) {
    const Pack x = load_pack(row, i, n);
    for (int k = 0; k < kPack; ++k) sums.v[k] = __fadd_rn(sums.v[k], __fmul_rn(x.v[k], x.v[k]));
  }
  return row_sum(sums);
}

}  // namespace wideseek::cuda
