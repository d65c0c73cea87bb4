// Keys and values in blocks, as the attention kernels of this device read them: [block][kv head][16][D], so that a
// block of one head is consecutive. Where tensor cores compute attention, a block of one head is laid out as an operand
// tile (hopper.h), which the copy engine moves to shared memory as it is; elsewhere a key is consecutive.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"
#include "cuda/hopper.h"

namespace wideseek::cuda {

// True if kernels for tensor cores serve this type and shape, which decides the layout too.
inline bool uses_tensor_cores(DType dtype, const Heads& heads) {
  return dtype == DType::kBFloat16 && (heads.head_dim == 64 || heads.head_dim == 128) && heads.group <= kTileRows;
}

void kv_store(Stream stream, const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan);

// Where a block of one kv head begins, in elements.
__device__ __forceinline__ int64_t kv_block_offset(const Heads& heads, int64_t block, int kv_head) {
  return (block * heads.num_kv_heads + kv_head) * (static_cast<int>(kKvBlockTokens) * heads.head_dim);
}

// Where the key or value at `position` of a sequence begins, in elements, if keys are consecutive.
__device__ __forceinline__ int64_t kv_offset(const Heads& heads, const int32_t* table, int position, int kv_head) {
  constexpr int kTokens = static_cast<int>(kKvBlockTokens);
  return kv_block_offset(heads, table[position / kTokens], kv_head) + position % kTokens * heads.head_dim;
}

}  // namespace wideseek::cuda
