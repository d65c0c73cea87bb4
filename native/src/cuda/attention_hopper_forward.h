// The forward pass on the tensor cores of compute capability 9.0, bf16 with heads of 64 and 128 elements.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"

namespace wideseek::cuda {

// scratch: as of attention_forward.
void hopper_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan, float* scratch);

}  // namespace wideseek::cuda
