// The backward pass on the tensor cores of compute capability 9.0, bf16 with heads of 64 and 128 elements.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"

namespace wideseek::cuda {

// statistics [T,H].
void hopper_attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, const RowStatistic* statistics,
                               ConstTypedPointer qkv, const KvBlocks& cache, const CudaAttentionPlan& plan);

}  // namespace wideseek::cuda
