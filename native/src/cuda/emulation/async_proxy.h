// What compute capability 9.0 does apart from the threads, emulated: mbarriers, bulk copies and products of a
// warpgroup. Each happens as late as it may (at the wait), bulk copies with ThreadOrder::kLastToFirst as early as they
// may, so that a missing wait and an operand that is overwritten too soon show. Throws kInternal for what a GPU answers
// with wrong numbers: an operand stored by a thread without a proxy fence, registers in use without a wgmma fence,
// warps of a group that disagree about the operands.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wideseek::emulation {

// An ordinary store to dynamic shared memory, and the fence that shows this thread's to tensor cores and bulk copies.
void note_ordinary_store(const std::byte* to, int bytes);
void fence_async_proxy();

// ---- mbarriers. Addresses are offsets in dynamic shared memory.
void init_mbarrier(uint32_t barrier, int arrivals);
// An arrival that lets the phase wait for `bytes` more of bulk copies.
void arrive_mbarrier(uint32_t barrier, int bytes);
// Until the phase of this parity is complete.
void wait_mbarrier(uint32_t barrier, int parity);
void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier);

// A matrix of bf16 in global memory, [rows][columns], of which boxes [box_rows][64] are copied.
struct TensorMap {
  const std::byte* matrix = nullptr;
  int64_t rows = 0, columns = 0;
  int box_rows = 0;
};
// The box that begins at (row, column), zeros where the matrix has nothing, with the 128-byte swizzle.
void copy_matrix_box(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier);

// ---- products. sum [64, columns] as fragments, A [64,16] of bf16 in registers or, if null, by descriptor, B
// [16, columns] by descriptor, K-major or MN-major. Called by whole warps.
struct WarpgroupProduct {
  int columns = 0;
  bool adds = false;  // else the sum begins at 0
  bool is_b_transposed = false;
  bool has_a_registers = false;
  uint64_t a = 0, b = 0;
  bool operator==(const WarpgroupProduct&) const = default;
};
void fence_products();
void issue_product(const WarpgroupProduct& product, float* sum, const uint32_t* a_registers);
void commit_products();
void wait_products(int newest_groups_left);

}  // namespace wideseek::emulation
