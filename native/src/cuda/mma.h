// The instructions of compute capability 8.0 that tensor-core kernels are made of: asynchronous copies to shared
// memory, ldmatrix, mma m16n8k16 for bf16. PTX on the device; under emulation the same meaning, lane by lane.
//
// Fragments of a warp, lane = 4 g + t: of C [16,8], lane holds {C[g][2t], C[g][2t+1], C[g+8][2t], C[g+8][2t+1]}; of A
// [16,16], {A[g][2t..], A[g+8][2t..], A[g][2t+8..], A[g+8][2t+8..]}, two elements each; of B [16,8], {B[2t..][g],
// B[2t+8..][g]}.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/platform.h"
#if defined(WIDESEEK_CUDA_EMULATION)
#include "cuda/emulation/async_proxy.h"
#endif

namespace wideseek::cuda {

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ int warp_id() { return static_cast<int>(threadIdx.x / 32); }

// A place in shared memory, in bytes.
using SharedAddress = uint32_t;

#if defined(WIDESEEK_CUDA_EMULATION)

inline SharedAddress dynamic_shared_address() { return 0; }

inline std::byte* shared_pointer(SharedAddress address) { return emulation::dynamic_shared() + address; }

inline void store_shared(SharedAddress to, uint32_t value) {
  std::memcpy(shared_pointer(to), &value, sizeof(value));
  emulation::note_ordinary_store(shared_pointer(to), sizeof(value));
}
inline void store_shared_floats(SharedAddress to, const float4& value) {
  std::memcpy(shared_pointer(to), &value, sizeof(value));
  emulation::note_ordinary_store(shared_pointer(to), sizeof(value));
}
inline uint4 load_shared_16(SharedAddress from) {
  uint4 value;
  std::memcpy(&value, shared_pointer(from), sizeof(value));
  return value;
}
inline float4 load_shared_floats(SharedAddress from) {
  float4 value;
  std::memcpy(&value, shared_pointer(from), sizeof(value));
  return value;
}

// Copies kBytes, 4, 8 or 16, to shared memory, or zeros unless `valid`. Visible after the wait, and to other threads
// after a barrier that follows it.
template <int kBytes>
void copy_async(SharedAddress to, const void* from, bool valid) {
  emulation::copy_async(shared_pointer(to), from, kBytes, valid ? kBytes : 0);
}
inline void commit_copies() { emulation::commit_copies(); }
// Waits until all but the newest groups of this thread's copies are done.
template <int kNewestGroupsLeft>
void wait_copies() {
  emulation::wait_copies(kNewestGroupsLeft);
}

// Four matrices [8,8] of 16-bit elements, the address of row r of matrix i being that of lane 8 i + r. Lane 4 g + t
// gets elements [g][2t] and [g][2t+1] of each, or of their transposes.
template <bool kTransposed>
void load_matrices(uint32_t (&fragment)[4], SharedAddress row) {
  std::memcpy(emulation::exchange(emulation::lane()), &row, sizeof(row));
  emulation::warp_barrier();
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    uint32_t value = 0;
    for (int e = 0; e < 2; ++e) {
      const int r = kTransposed ? 2 * t + e : g, c = kTransposed ? g : 2 * t + e;
      SharedAddress address;
      std::memcpy(&address, emulation::exchange(8 * i + r), sizeof(address));
      uint16_t element;
      std::memcpy(&element, shared_pointer(address) + 2 * c, sizeof(element));
      value |= static_cast<uint32_t>(element) << (16 * e);
    }
    fragment[i] = value;
  }
  emulation::warp_barrier();
}

// c += a b
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t own[6] = {a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(emulation::exchange(emulation::lane()), own, sizeof(own));
  emulation::warp_barrier();
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int k = 0; k < 16; k += 2) {
    uint32_t rows[6], columns[2][6];
    std::memcpy(rows, emulation::exchange(4 * g + k % 8 / 2), sizeof(rows));
    for (int n = 0; n < 2; ++n)
      std::memcpy(columns[n], emulation::exchange(4 * (2 * t + n) + k % 8 / 2), sizeof(columns[n]));
    for (int e = 0; e < 4; ++e) {
      const uint32_t x = rows[e / 2 + k / 8 * 2], y = columns[e % 2][4 + k / 8];
      c[e] = std::fma(bf16_to_float(static_cast<uint16_t>(x)), bf16_to_float(static_cast<uint16_t>(y)), c[e]);
      c[e] =
          std::fma(bf16_to_float(static_cast<uint16_t>(x >> 16)), bf16_to_float(static_cast<uint16_t>(y >> 16)), c[e]);
    }
  }
  emulation::warp_barrier();
}

// Both rounded to bf16, `low` in the low half.
inline uint32_t pack_bf16(float low, float high) {
  return float_to_bf16(low) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
}

// 2^x within 2 ulp, 1 for 0, 0 for -inf; results below 2^-126 are 0.
inline float fast_exp2(float x) { return std::exp2(x); }

#else

__device__ __forceinline__ SharedAddress dynamic_shared_address() {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(dynamic_shared()));
}

__device__ __forceinline__ void store_shared(SharedAddress to, uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ __forceinline__ void store_shared_floats(SharedAddress to, const float4& value) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(value.x), "f"(value.y), "f"(value.z),
               "f"(value.w)
               : "memory");
}
__device__ __forceinline__ uint4 load_shared_16(SharedAddress from) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}
__device__ __forceinline__ float4 load_shared_floats(SharedAddress from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(from)
               : "memory");
  return v;
}

template <int kBytes>
__device__ __forceinline__ void copy_async(SharedAddress to, const void* from, bool valid) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_global(from));
  const int valid_bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {  // past L1: blocks share what they read in L2
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(address), "r"(valid_bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(address), "n"(kBytes), "r"(valid_bytes)
                 : "memory");
  }
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kNewestGroupsLeft>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewestGroupsLeft) : "memory");
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(uint32_t (&fragment)[4], SharedAddress row) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(row)
                 : "memory");
  }
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif

}  // namespace wideseek::cuda
