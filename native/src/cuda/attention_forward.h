// The forward pass on tensor cores, bf16 with heads of 64 and 128 elements.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"

namespace wideseek::cuda {

// scratch: as of attention_forward.
void tensor_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan, float* scratch);

// Shared memory of a block, which may merge spans.
int64_t tensor_forward_shared_bytes(int64_t head_dim, bool merges_spans);

}  // namespace wideseek::cuda
