// The instructions of compute capability 9.0 that attention and products are made of: mbarriers, bulk copies to shared
// memory, and wgmma, the product of a warpgroup (four warps, 64 rows) whose operands lie in shared memory. PTX on the
// device; under emulation the same meaning (emulation/async_proxy.h).
//
// An operand tile [rows][D] of bf16 is groups of 8 rows one after the other; a group is its columns in parts of 64,
// each [8][64], and 16-byte chunk c of a row of a part lies at c ^ (row % 8) (the 128-byte swizzle). Tiles begin at
// multiples of 1024 bytes.
//
// Fragments of a warp are those of mma.h: sum[n] is C [16,8] of columns 8n..., the warp's 16 rows of the 64; A of 16
// columns is four registers.
#pragma once

#include "cuda/mma.h"
#include "cuda/tensor_map.h"

// Before a loop that is to stay one: registers matter more than its overhead.
#if defined(WIDESEEK_CUDA_EMULATION)
#define WS_ROLLED
#else
#define WS_ROLLED _Pragma("unroll 1")
#endif

namespace wideseek::cuda {

// Whether code is compiled for what is below; elsewhere kernels have no body, and are never launched.
#if defined(WIDESEEK_CUDA_EMULATION) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif

constexpr int kWarpgroupThreads = 128;
constexpr int kProductRows = 64;  // of a warpgroup

// The same for all threads of a warp, and the compiler sees it.
__device__ __forceinline__ int warpgroup_id() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
}
__device__ __forceinline__ int warp_of_group() { return warp_id() % (kWarpgroupThreads / 32); }

// Which 16-byte chunk of an operand tile holds chunk `chunk` of row `row`.
template <int D>
__host__ __device__ __forceinline__ int operand_chunk(int row, int chunk) {
  return row / 8 * D + chunk / 8 * 64 + row % 8 * 8 + ((chunk ^ row) & 7);
}
// The row of a tile's 16-byte chunk number i.
template <int D>
__host__ __device__ __forceinline__ int operand_row(int i) {
  return i / D * 8 + i / 8 % 8;
}

// An operand as wgmma takes it, at 16 of its inner dimension.
using Operand = uint64_t;

// Rows of the tile are rows of the operand. Columns [16 k, 16 k + 16) are column_step(k) further on.
template <int D>
__device__ __forceinline__ Operand operand_of_rows(SharedAddress tile) {
  constexpr uint64_t kStride = D * 16 / 16;
  return (tile & 0x3ffff) >> 4 | uint64_t{1} << 16 | kStride << 32 | uint64_t{1} << 62;
}
__device__ __forceinline__ Operand column_step(int k) { return static_cast<Operand>(k / 4 * (1024 / 16) + k % 4 * 2); }
// Columns of the tile are rows of the operand. Rows [16 k, 16 k + 16) of the tile are row_step<D>(k) further on.
template <int D>
__device__ __forceinline__ Operand operand_of_columns(SharedAddress tile) {
  constexpr uint64_t kLeading = 1024 / 16, kStride = D * 16 / 16;
  return (tile & 0x3ffff) >> 4 | kLeading << 16 | kStride << 32 | uint64_t{1} << 62;
}
template <int D>
__device__ __forceinline__ Operand row_step(int k) {
  return static_cast<Operand>(k * 2 * D * 16 / 16);
}

#if defined(WIDESEEK_CUDA_EMULATION)

// ---- barriers in shared memory, 8 bytes each. Once initialised by one thread: publish_mbarriers by it,
// __syncthreads().

inline void init_mbarrier(SharedAddress barrier, int arrivals) { emulation::init_mbarrier(barrier, arrivals); }
inline void publish_mbarriers() {}
inline void arrive(SharedAddress barrier) { emulation::arrive_mbarrier(barrier, 0); }
// Arrives, and lets the phase wait for `bytes` of bulk copies too.
inline void arrive_expecting(SharedAddress barrier, uint32_t bytes) {
  emulation::arrive_mbarrier(barrier, static_cast<int>(bytes));
}
// Until phase number `phase` is complete. Phase -1 is, from the beginning.
inline void wait_phase(SharedAddress barrier, int phase) { emulation::wait_mbarrier(barrier, phase & 1); }

// ---- copies of whole chunks of 16 bytes by the copy engine, reported to a barrier
inline void copy_bulk(SharedAddress to, const void* from, uint32_t bytes, SharedAddress barrier) {
  emulation::copy_bulk(to, from, static_cast<int>(bytes), barrier);
}
// The box of a matrix that begins at (row, column), as an operand tile of 64 columns: zeros where the matrix ends. The
// map lies in the kernel's parameters. All bytes of the box are reported.
inline void copy_box(SharedAddress to, const TensorMap& map, int column, int row, SharedAddress barrier) {
  emulation::copy_matrix_box(to, map, column, row, barrier);
}
inline void prefetch_map(const TensorMap&) {}
// Shows the stores of this thread to products and bulk copies that follow a barrier.
inline void fence_async_proxy() { emulation::fence_async_proxy(); }

// ---- barriers of some warps of the block, ids 1 to 15; arriving threads do not wait
inline void sync_threads(int id, int count) { emulation::named_barrier(id, count); }
inline void arrive_threads(int id, int count) { emulation::named_arrive(id, count); }

// ---- registers of a thread, given back or taken by all warps of a warpgroup
template <int kRegisters>
void shrink_registers() {}
template <int kRegisters>
void grow_registers() {}

// ---- products of a warpgroup. fence_products before the first one after registers that it uses have been touched,
// with these registers; they may be touched again after the wait that names them.
template <typename... Registers>
void fence_products(Registers&...) {
  emulation::fence_products();
}
inline void commit_products() { emulation::commit_products(); }
template <int kNewestGroupsLeft, typename... Registers>
void wait_products(Registers&...) {
  emulation::wait_products(kNewestGroupsLeft);
}
// Keeps what `value` is computed from before a wait that follows: ptxas would move the wait ahead of arithmetic that is
// there to run under the products. `value` is never negative; nothing is stored.
inline void compute_before_wait(float, SharedAddress) {}
// sum [64, 8 kColumnTiles] (+)= A B^T, A and B by rows.
template <bool kAdds, int kColumnTiles>
void issue_product(float (&sum)[kColumnTiles][4], Operand a, Operand b) {
  emulation::issue_product({kColumnTiles * 8, kAdds, false, false, a, b}, &sum[0][0], nullptr);
}
// sum += A B, B by columns.
template <int kColumnTiles>
void issue_product(float (&sum)[kColumnTiles][4], const uint32_t (&a)[4], Operand b) {
  emulation::issue_product({kColumnTiles * 8, true, true, true, 0, b}, &sum[0][0], a);
}

#else

__device__ __forceinline__ void init_mbarrier(SharedAddress barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void publish_mbarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(SharedAddress barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void arrive_expecting(SharedAddress barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait_phase(SharedAddress barrier, int phase) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(phase & 1)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(SharedAddress to, const void* from, uint32_t bytes, SharedAddress barrier) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_global(from));
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(address), "r"(bytes), "r"(barrier)
               : "memory");
}
__device__ __forceinline__ void copy_box(SharedAddress to, const TensorMap& map, int column, int row,
                                         SharedAddress barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void sync_threads(int id, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ void arrive_threads(int id, int count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}
template <int kRegisters>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Neither moves an access of the registers past the place of the call.
template <int kTiles>
__device__ __forceinline__ void pin(float (&registers)[kTiles][4]) {
  WS_UNROLL
  for (int i = 0; i < kTiles; ++i) {
    WS_UNROLL
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(registers[i][e])::"memory");
  }
}
template <int kSteps>
__device__ __forceinline__ void pin(uint32_t (&registers)[kSteps][4]) {
  WS_UNROLL
  for (int i = 0; i < kSteps; ++i) {
    WS_UNROLL
    for (int e = 0; e < 4; ++e) asm volatile("" : "+r"(registers[i][e])::"memory");
  }
}
template <typename... Registers>
__device__ __forceinline__ void fence_products(Registers&... registers) {
  (pin(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kNewestGroupsLeft, typename... Registers>
__device__ __forceinline__ void wait_products(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kNewestGroupsLeft) : "memory");
  (pin(registers), ...);
}
// A store that a value below 0 would make, for nothing else holds ptxas.
__device__ __forceinline__ void compute_before_wait(float value, SharedAddress anywhere) {
  asm volatile(
      "{\n"
      ".reg .pred below;\n"
      "setp.lt.f32 below, %1, 0f00000000;\n"
      "@below st.shared.f32 [%0], %1;\n"
      "}\n" ::"r"(anywhere),
      "f"(value)
      : "memory");
}

#define WS_SUMS(n) "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
#define WS_SUMS_64 WS_SUMS(0), WS_SUMS(1), WS_SUMS(2), WS_SUMS(3), WS_SUMS(4), WS_SUMS(5), WS_SUMS(6), WS_SUMS(7)
#define WS_SUMS_128 \
  WS_SUMS_64, WS_SUMS(8), WS_SUMS(9), WS_SUMS(10), WS_SUMS(11), WS_SUMS(12), WS_SUMS(13), WS_SUMS(14), WS_SUMS(15)

template <bool kAdds, int kColumnTiles>
__device__ __forceinline__ void issue_product(float (&sum)[kColumnTiles][4], Operand a, Operand b) {
  static_assert(kColumnTiles == 8 || kColumnTiles == 16);
  if constexpr (kColumnTiles == 8) {
    asm volatile(
        "{\n"
        ".reg .pred adds;\n"
        "setp.ne.b32 adds, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, adds, 1, 1, 0, 0;\n"
        "}\n"
        : WS_SUMS_64
        : "l"(a), "l"(b), "r"(static_cast<int>(kAdds)));
  } else {
    asm volatile(
        "{\n"
        ".reg .pred adds;\n"
        "setp.ne.b32 adds, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, adds, 1, 1, 0, 0;\n"
        "}\n"
        : WS_SUMS_128
        : "l"(a), "l"(b), "r"(static_cast<int>(kAdds)));
  }
}

template <int kColumnTiles>
__device__ __forceinline__ void issue_product(float (&sum)[kColumnTiles][4], const uint32_t (&a)[4], Operand b) {
  static_assert(kColumnTiles == 8 || kColumnTiles == 16);
  if constexpr (kColumnTiles == 8) {
    asm volatile(
        "{\n"
        ".reg .pred adds;\n"
        "setp.ne.b32 adds, 1, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n"
        "}\n"
        : WS_SUMS_64
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else {
    asm volatile(
        "{\n"
        ".reg .pred adds;\n"
        "setp.ne.b32 adds, 1, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "
        "%56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, adds, 1, 1, 1;\n"
        "}\n"
        : WS_SUMS_128
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
}
#undef WS_SUMS_128
#undef WS_SUMS_64
#undef WS_SUMS

#endif

// One arrival for each warp, after what its lanes have done.
__device__ __forceinline__ void release(SharedAddress barrier) {
  __syncwarp();
  if (lane_id() == 0) arrive(barrier);
}

// Where operand tiles may begin; static shared memory before it would break their swizzle.
__device__ __forceinline__ SharedAddress operand_shared_address() {
  const SharedAddress address = dynamic_shared_address();
#if !defined(WIDESEEK_CUDA_EMULATION)
  if (address % 1024 != 0) __trap();
#endif
  return address;
}

// Whether launches take place on a device that the kernels of this file run on.
inline bool device_has_wgmma() {
#if defined(WIDESEEK_CUDA_EMULATION)
  return emulation::compute_capability() == 9;
#else
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  return major == 9;
#endif
}

// ---- products over a whole inner dimension, issued

// sum [64, 8 kColumnTiles] = A B^T over D columns of both tiles, beginning at rows that are multiples of 8.
template <int D, int kColumnTiles>
__device__ __forceinline__ void issue_product_of_rows(float (&sum)[kColumnTiles][4], SharedAddress a, SharedAddress b) {
  const Operand of_a = operand_of_rows<D>(a), of_b = operand_of_rows<D>(b);
  issue_product<false>(sum, of_a, of_b);
  WS_UNROLL
  for (int k = 1; k < D / 16; ++k) issue_product<true>(sum, of_a + column_step(k), of_b + column_step(k));
}

// sum [64, D] += W B over the 16 kSteps first rows of tile b.
template <int D, int kSteps>
__device__ __forceinline__ void issue_product_of_columns(float (&sum)[D / 8][4], const uint32_t (&weights)[kSteps][4],
                                                         SharedAddress b) {
  const Operand of_b = operand_of_columns<D>(b);
  WS_UNROLL
  for (int k = 0; k < kSteps; ++k) issue_product(sum, weights[k], of_b + row_step<D>(k));
}

// Sums rounded to bf16, as the A operand of the next product.
template <int kColumnTiles>
__device__ __forceinline__ void pack_operand(uint32_t (&operand)[kColumnTiles / 2][4],
                                             const float (&sum)[kColumnTiles][4]) {
  WS_UNROLL
  for (int k = 0; k < kColumnTiles / 2; ++k) {
    operand[k][0] = pack_bf16(sum[2 * k][0], sum[2 * k][1]);
    operand[k][1] = pack_bf16(sum[2 * k][2], sum[2 * k][3]);
    operand[k][2] = pack_bf16(sum[2 * k + 1][0], sum[2 * k + 1][1]);
    operand[k][3] = pack_bf16(sum[2 * k + 1][2], sum[2 * k + 1][3]);
  }
}

}  // namespace wideseek::cuda
