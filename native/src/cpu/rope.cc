// Per-head norm and rotation of the query and key heads of packed qkv rows.
#include <cstring>

#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek::cpu {

void qk_norm_rope_forward(ThreadPool& pool, float* out, const float* qkv, const float* q_norm, const float* k_norm,
                          const float* cos, const float* sin, const int32_t* positions, const AttentionShape& shape,
                          int64_t T, float eps) {
  const RowKernels& kernels = row_kernels();
  const int64_t width = shape.qkv_size();
  const int64_t half = shape.head_dim / 2;
  const int64_t rotated_heads = shape.num_heads + shape.num_kv_heads;
  pool.parallel_for(T, row_grain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row_cos = cos + positions[t] * half;
      const float* row_sin = sin + positions[t] * half;
      for (int64_t head = 0; head < rotated_heads; ++head) {
        const int64_t at = t * width + head * shape.head_dim;
        kernels.norm_rope(out + at, qkv + at, head < shape.num_heads ? q_norm : k_norm, row_cos, row_sin, half, eps);
      }
      if (out != qkv) {
        const int64_t at = t * width + rotated_heads * shape.head_dim;
        std::memcpy(out + at, qkv + at, static_cast<size_t>(shape.num_kv_heads * shape.head_dim) * sizeof(float));
      }
    }
  });
}

void qk_norm_rope_backward(ThreadPool& pool, float* dqkv, float* dq_norm, float* dk_norm, const float* qkv,
                           const float* q_norm, const float* k_norm, const float* cos, const float* sin,
                           const int32_t* positions, const AttentionShape& shape, int64_t T, float eps) {
  const RowKernels& kernels = row_kernels();
  const int64_t width = shape.qkv_size();
  const int64_t head_dim = shape.head_dim;
  const int64_t half = head_dim / 2;
  std::vector<float> dnorms(static_cast<size_t>(2 * head_dim), 0.0f);  // of q, then of k
  reduce_over_rows(pool, T, 2 * head_dim, dnorms.data(), [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row_cos = cos + positions[t] * half;
      const float* row_sin = sin + positions[t] * half;
      for (int64_t head = 0; head < shape.num_heads + shape.num_kv_heads; ++head) {
        const bool is_query = head < shape.num_heads;
        const int64_t at = t * width + head * head_dim;
        kernels.norm_rope_backward(dqkv + at, is_query ? partial : partial + head_dim, qkv + at,
                                   is_query ? q_norm : k_norm, row_cos, row_sin, half, eps);
      }
    }
  });
  if (q_norm != nullptr) kernels.add(dq_norm, dnorms.data(), head_dim);
  if (k_norm != nullptr) kernels.add(dk_norm, dnorms.data() + head_dim, head_dim);
}

}  // namespace wideseek::cpu
