// Rows spread over threads so that loads are wide and sums still come in THE summation order of the project
// (cpu/vector_math.h, sum_of): element i of a row adds to lane i % 16 of accumulator (i / 16) % 4. Eight threads share
// a row; in every 64 elements thread j holds the eight consecutive ones from 8 j, which are always of the same lanes.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int kRowThreads = 8;
constexpr int kPack = 8;                       // consecutive elements of one thread
constexpr int kRowStep = kRowThreads * kPack;  // elements between two packs of a thread
constexpr int kRowBlock = 128;                 // threads of a block
constexpr int kBlockRows = kRowBlock / kRowThreads;
constexpr unsigned kWholeWarp = 0xffffffffu;

inline Launch row_launch(int64_t rows) {
  return {static_cast<unsigned>(ceil_div<int64_t>(rows, kBlockRows)), kRowBlock};
}

// Eight floats; those at or past the end of the row are 0.
struct Pack {
  float v[kPack];
};

// The same eight as they are in memory: what a thread holds of a row that it needs twice.
template <typename T>
struct RawPack {
  static constexpr int kWords = kPack * sizeof(T) / 4;
  uint32_t w[kWords];
};

template <typename T>
__device__ __forceinline__ Pack widen(const RawPack<T>& raw) {
  Pack pack;
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) {
    if constexpr (std::is_same_v<T, BF16>) {
      pack.v[k] = to_float(BF16{static_cast<uint16_t>(raw.w[k / 2] >> (k % 2 * 16))});
    } else {
      pack.v[k] = std::bit_cast<float>(raw.w[k]);
    }
  }
  return pack;
}

template <typename T>
__device__ __forceinline__ RawPack<T> narrow(const Pack& pack) {
  RawPack<T> raw;
  WS_UNROLL
  for (int word = 0; word < RawPack<T>::kWords; ++word) {
    if constexpr (std::is_same_v<T, BF16>) {
      raw.w[word] = two_bf16(pack.v[2 * word], pack.v[2 * word + 1]);
    } else {
      raw.w[word] = std::bit_cast<uint32_t>(pack.v[word]);
    }
  }
  return raw;
}

// Four words at a multiple of 16 bytes, in one access: from four members of a structure the compiler may make four.
#if defined(WIDESEEK_CUDA_EMULATION)
inline void load_words(uint32_t* words, const void* from) { std::memcpy(words, from, 16); }
inline void store_words(void* to, const uint32_t* words) { std::memcpy(to, words, 16); }
#else
__device__ __forceinline__ void load_words(uint32_t* words, const void* from) {
  asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "l"(__cvta_generic_to_global(from))
               : "memory");
}
__device__ __forceinline__ void store_words(void* to, const uint32_t* words) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(words[0]),
               "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}
#endif

// Elements [i, i + 8) of a row of n. Rows of a multiple of 8 elements are read 16 bytes at a time.
template <typename T>
__device__ __forceinline__ RawPack<T> load_raw(const T* row, int64_t i, int64_t n) {
  RawPack<T> raw{};
  if (n % kPack == 0) {
    if (i < n) {
      WS_UNROLL
      for (int word = 0; word < RawPack<T>::kWords; word += 4)
        load_words(raw.w + word, reinterpret_cast<const uint32_t*>(row + i) + word);
    }
  } else {
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) {
      if (i + k >= n) continue;
      if constexpr (std::is_same_v<T, BF16>) {
        raw.w[k / 2] |= static_cast<uint32_t>(row[i + k].bits) << (k % 2 * 16);
      } else {
        raw.w[k] = std::bit_cast<uint32_t>(row[i + k]);
      }
    }
  }
  return raw;
}

template <typename T>
__device__ __forceinline__ void store_raw(T* row, int64_t i, int64_t n, const RawPack<T>& raw) {
  if (n % kPack == 0) {
    if (i >= n) return;
    WS_UNROLL
    for (int word = 0; word < RawPack<T>::kWords; word += 4)
      store_words(reinterpret_cast<uint32_t*>(row + i) + word, raw.w + word);
  } else {
    WS_UNROLL
    for (int k = 0; k < kPack; ++k) {
      if (i + k >= n) continue;
      if constexpr (std::is_same_v<T, BF16>) {
        row[i + k] = BF16{static_cast<uint16_t>(raw.w[k / 2] >> (k % 2 * 16))};
      } else {
        row[i + k] = std::bit_cast<float>(raw.w[k]);
      }
    }
  }
}

template <typename T>
__device__ __forceinline__ Pack load_pack(const T* row, int64_t i, int64_t n) {
  return widen(load_raw(row, i, n));
}

template <typename T>
__device__ __forceinline__ void store_pack(T* row, int64_t i, int64_t n, const Pack& pack) {
  store_raw(row, i, n, narrow<T>(pack));
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
