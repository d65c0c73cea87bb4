// Keys and values in blocks, as the attention kernels of this device read them. Both are [block][kv head][16][D], so
// that a key is consecutive and a block of one head is consecutive.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"

namespace wideseek::cuda {

void kv_store(Stream stream, const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan);

// Where the key or value at `position` of a sequence begins, in elements.
__device__ __forceinline__ int64_t kv_offset(const Heads& heads, const int32_t* table, int position, int kv_head) {
  constexpr int kTokens = static_cast<int>(kKvBlockTokens);
  const int64_t block = table[position / kTokens];
  return ((block * heads.num_kv_heads + kv_head) * kTokens + position % kTokens) * heads.head_dim;
}

}  // namespace wideseek::cuda
