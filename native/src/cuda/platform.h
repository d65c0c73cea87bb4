// What kernels and their launches need, on the device and, with WIDESEEK_CUDA_EMULATION, on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/dtype.h"

#if defined(WIDESEEK_CUDA_EMULATION)
#include "cuda/emulation/emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "cuda/runtime.h"
#endif

// Before a loop whose trip count is known: keeps the arrays that it indexes in registers.
#if defined(WIDESEEK_CUDA_EMULATION)
#define WS_UNROLL
#else
#define WS_UNROLL _Pragma("unroll")
#endif

namespace wideseek::cuda {

// A bf16 number in memory; arithmetic is fp32.
struct BF16 {
  uint16_t bits;
};

template <typename T>
inline constexpr DType kDTypeOf = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<BF16> = DType::kBFloat16;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(BF16 value) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return bf16_to_float(value.bits);
#else
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
#endif
}

// Rounds to nearest even.
template <typename T>
__device__ __forceinline__ T from_float(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
#if defined(WIDESEEK_CUDA_EMULATION)
    return {float_to_bf16(value)};
#else
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#endif
  }
}

// Both rounded to nearest even, `first` in the low half: how two neighbours lie in memory.
__device__ __forceinline__ uint32_t two_bf16(float first, float second) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return static_cast<uint32_t>(float_to_bf16(second)) << 16 | float_to_bf16(first);
#else
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#endif
}

// Dynamic shared memory of the block, aligned to 1024 bytes.
__device__ __forceinline__ std::byte* dynamic_shared() {
#if defined(WIDESEEK_CUDA_EMULATION)
  return emulation::dynamic_shared();
#else
  extern __shared__ __align__(1024) unsigned char wideseek_dynamic_shared[];
  return reinterpret_cast<std::byte*>(wideseek_dynamic_shared);
#endif
}

// A kernel of launch_early may begin before those given to the stream before it have ended, if the last of them has let
// it. Until this returns in a thread, the thread touches nothing that they write, and writes nothing that they touch.
// It is called in every block, so that the end of a kernel is the end of all before it.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if !defined(WIDESEEK_CUDA_EMULATION) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next one begin as soon as there is room for it beside this one's blocks, all of which have begun.
__device__ __forceinline__ void let_next_kernel_begin() {
#if !defined(WIDESEEK_CUDA_EMULATION) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Where and how often a kernel runs.
struct Launch {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes = 0;  // dynamic
};

#if defined(WIDESEEK_CUDA_EMULATION)
struct Stream {};
using Event = int;

template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), const Launch& where, Stream, Args... args) {
  if (where.grid.x == 0 || where.grid.y == 0 || where.grid.z == 0) return;
  emulation::give([=] { emulation::run_grid(where.grid, where.block, where.shared_bytes, [=] { kernel(args...); }); });
}
template <typename... Params, typename... Args>
void launch_early(void (*kernel)(Params...), const Launch& where, Stream stream, Args... args) {
  launch(kernel, where, stream, args...);
}
#else
using Stream = cudaStream_t;
using Event = cudaEvent_t;

template <typename... Params>
void allow_shared_bytes(void (*kernel)(Params...), int64_t bytes) {
  if (bytes <= 48 * 1024) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

// An empty grid launches nothing. Throws as check().
template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), const Launch& where, Stream stream, Args... args) {
  if (where.grid.x == 0 || where.grid.y == 0 || where.grid.z == 0) return;
  allow_shared_bytes(kernel, where.shared_bytes);
  // clang-format off
  kernel<<<where.grid, where.block, static_cast<size_t>(where.shared_bytes), stream>>>(static_cast<Params>(args)...);
  // clang-format on
  check(cudaGetLastError(), "kernel launch");
}

// Of kernels that begin with wait_for_earlier_kernels: as launch, but in a recording they may begin early.
template <typename... Params, typename... Args>
void launch_early(void (*kernel)(Params...), const Launch& where, Stream stream, Args... args) {
  if (!may_begin_early(stream)) return launch(kernel, where, stream, args...);
  if (where.grid.x == 0 || where.grid.y == 0 || where.grid.z == 0) return;
  allow_shared_bytes(kernel, where.shared_bytes);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = where.grid;
  config.blockDim = where.block;
  config.dynamicSmemBytes = static_cast<size_t>(where.shared_bytes);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), "kernel launch");
}
#endif

template <typename T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

// Calls f with a value of the element type of `dtype`, fp32 or bf16.
template <typename F>
void with_element_type(DType dtype, F&& f) {
  if (dtype == DType::kBFloat16) {
    f(BF16{});
  } else {
    f(float{});
  }
}

}  // namespace wideseek::cuda
