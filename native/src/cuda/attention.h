// Attention: tensor cores where they take the shape, else the plain kernels. Contracts: backend.h.
#pragma once

#include "backend.h"
#include "cuda/attention_plan.h"
#include "cuda/kv_store.h"

namespace wideseek::cuda {

// Whether the kernels of compute capability 9.0 serve where tensor cores do. For tests, WIDESEEK_ATTENTION=mma takes
// those of 8.0 on every device; a plan and what is computed by it must see the same setting.
bool attention_uses_wgmma();

// scratch: attention_forward_scratch floats; the second form tells what `rows` rows need at most at contexts of up to
// `max_context` tokens.
int64_t attention_forward_scratch(DType dtype, const AttentionPlan& plan);
int64_t attention_forward_scratch(DType dtype, const AttentionShape& shape, int64_t rows, int64_t max_context);
void attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                       const AttentionPlan& plan, float* scratch);

// scratch: attention_backward_scratch(plan) floats. dcache is not used: gradients go to their rows at once.
int64_t attention_backward_scratch(const AttentionPlan& plan);
int64_t attention_backward_scratch(const AttentionShape& shape, int64_t rows);
void attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out,
                        const float* lse, ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks& dcache,
                        const AttentionPlan& plan, float* scratch);

}  // namespace wideseek::cuda
