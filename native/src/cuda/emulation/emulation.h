// CUDA on the host, for tests: enough of the language to compile this folder's kernels with a C++ compiler and run
// them block by block, each thread a fiber. It finds wrong indices, missing barriers and wrong sums without a GPU; it
// says nothing about speed. Each warp of a block runs alone up to the next barrier of the block, and its threads one
// after the other up to the next of the warp: first to last or, on demand, last to first. Results that differ between
// the two orders show a race.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __grid_constant__
// One block runs at a time, so its shared variables may live for ever.
#define __shared__ static

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

// Those of the thread that runs.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace wideseek::emulation {

enum class ThreadOrder { kFirstToLast, kLastToFirst };
// Of every grid from now on.
void set_thread_order(ThreadOrder order);
ThreadOrder current_thread_order();
// Major number of the compute capability that launches choose their kernels by, 9 unless set.
void set_compute_capability(int major);
int compute_capability();

// Calls `thread` once for every thread of every block. Throws what a thread throws, and kInternal if the threads of a
// block wait for different barriers.
void run_grid(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& thread);

// Does the stream's work now, or between begin and end keeps it for whoever has the recording: with the addresses and
// numbers that it was given.
void give(std::function<void()> work);
void begin_recording();
std::vector<std::function<void()>> end_recording();
bool is_recording();

// Dynamic shared memory of the block that runs; filled with NaN bits before a block begins.
std::byte* dynamic_shared();
int64_t dynamic_shared_bytes();
void block_barrier();
// bar.sync and bar.arrive: a barrier opens when `count` threads have come to it, of which those that arrive go on.
void named_barrier(int id, int count);
void named_arrive(int id, int count);
void warp_barrier();
// Suspends the running thread until `condition` holds, which other threads bring about.
void wait_until(std::function<bool()> condition);
// The running thread in its block, and its block among all that ever ran.
int thread_number();
int64_t block_number();
int lane();
// 64 bytes of each lane of the running warp, for collectives: write one's own, barrier, read others', barrier.
constexpr int kExchangeBytes = 64;
std::byte* exchange(int lane);

// ---- asynchronous copies: done at the wait, so that a missing wait shows
void copy_async(void* shared, const void* global, int bytes, int valid_bytes);
void commit_copies();
void wait_copies(int newest_groups_left);

template <typename T>
T shuffle(T value, int from) {
  static_assert(sizeof(T) <= kExchangeBytes && std::is_trivially_copyable_v<T>);
  std::memcpy(exchange(lane()), &value, sizeof(T));
  warp_barrier();
  T result;
  std::memcpy(&result, exchange(from & 31), sizeof(T));
  warp_barrier();
  return result;
}

}  // namespace wideseek::emulation

inline void __syncthreads() { wideseek::emulation::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { wideseek::emulation::warp_barrier(); }
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return wideseek::emulation::shuffle(value, lane);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return wideseek::emulation::shuffle(value, wideseek::emulation::lane() ^ mask);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, int delta) {
  const int from = wideseek::emulation::lane() + delta;
  return wideseek::emulation::shuffle(value, from < 32 ? from : wideseek::emulation::lane());
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
template <typename T>
T __ldg(const T* pointer) {
  return *pointer;
}
