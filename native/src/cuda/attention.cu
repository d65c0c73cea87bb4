// Chooses the kernels, and computes what both kinds need before a backward pass.
#include "cuda/attention.h"

#include "cuda/attention_backward.h"
#include "cuda/attention_forward.h"
#include "cuda/attention_hopper_backward.h"
#include "cuda/attention_hopper_forward.h"
#include "cuda/attention_parts.h"
#include "cuda/attention_plain.h"
#include "cuda/attention_span.h"
#include "cuda/row.h"

namespace wideseek::cuda {
namespace {

// A row is one head of D elements.
template <typename E>
__global__ void statistics_kernel(RowStatistic* statistics, const E* dout, const E* out, const float* lse,
                                  int64_t heads, int64_t D) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlockRows + threadIdx.x / kRowThreads;
  const int lane = threadIdx.x % kRowThreads;
  const int64_t row = first < heads ? first : heads - 1;  // so that every warp is whole
  Pack sums{};
  for (int64_t i = lane * kPack; i < D; i += kRowStep) {
    const Pack x = load_pack(dout + row * D, i, D), y = load_pack(out + row * D, i, D);
    for (int k = 0; k < kPack; ++k) sums.v[k] = __fmaf_rn(x.v[k], y.v[k], sums.v[k]);
  }
  const float sum = row_sum(sums);
  if (first < heads && lane == 0) statistics[first] = {lse[first] * kLog2E, sum};
}

}  // namespace

int64_t attention_forward_scratch(DType dtype, const AttentionPlan& plan) {
  const CudaAttentionPlan& own = cuda_plan(plan);
  if (!uses_tensor_cores(dtype, own.heads())) return 0;
  return Partials::floats(own.heads(), own.query_parts().partial_rows);
}

int64_t attention_forward_scratch(DType dtype, const AttentionShape& shape, int64_t rows, int64_t max_context) {
  const Heads heads(shape);
  return uses_tensor_cores(dtype, heads) ? Partials::floats(heads, most_partial_rows(heads, rows, max_context)) : 0;
}

void attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                       const AttentionPlan& plan, float* scratch) {
  const CudaAttentionPlan& own = cuda_plan(plan);
  if (!uses_tensor_cores(qkv.dtype, own.heads())) {
    plain_attention_forward(stream, out, lse, qkv, cache, own);
  } else if (attention_uses_wgmma()) {
    hopper_attention_forward(stream, out, lse, qkv, cache, own, scratch);
  } else {
    tensor_attention_forward(stream, out, lse, qkv, cache, own, scratch);
  }
}

int64_t attention_backward_scratch(const AttentionShape& shape, int64_t rows) {
  constexpr int64_t kFloats = sizeof(RowStatistic) / sizeof(float);
  return rows * shape.num_heads * kFloats;
}

int64_t attention_backward_scratch(const AttentionPlan& plan) {
  const CudaAttentionPlan& own = cuda_plan(plan);
  const Heads& heads = own.heads();
  return attention_backward_scratch({heads.num_heads, heads.num_kv_heads, heads.head_dim}, own.query_tiles().num_rows);
}

void attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out,
                        const float* lse, ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks&,
                        const AttentionPlan& plan, float* scratch) {
  const CudaAttentionPlan& own = cuda_plan(plan);
  const int64_t rows = own.query_tiles().num_rows * own.heads().num_heads;
  auto* statistics = reinterpret_cast<RowStatistic*>(scratch);
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(statistics_kernel<E>, row_launch(rows), stream, statistics, static_cast<const E*>(dout.data),
           static_cast<const E*>(out.data), lse, rows, own.heads().head_dim);
  });
  if (!uses_tensor_cores(qkv.dtype, own.heads())) {
    plain_attention_backward(stream, dqkv, dout, lse, statistics, qkv, cache, own);
  } else if (attention_uses_wgmma()) {
    hopper_attention_backward(stream, dqkv, dout, statistics, qkv, cache, own);
  } else {
    tensor_attention_backward(stream, dqkv, dout, statistics, qkv, cache, own);
  }
}

}  // namespace wideseek::cuda
