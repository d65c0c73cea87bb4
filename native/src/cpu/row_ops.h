// Operations of the backend that treat rows one by one, spread over the pool. Contracts: backend.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backend.h"
#include "cpu/threads.h"

namespace wideseek::cpu {

// Rows a thread takes at a time: about 16K elements, so that a decode step of few rows wakes no worker.
inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }

// Calls f(begin, end, partial) over fixed groups of [0, rows) and then adds the groups' partial sums [width], zero at
// first, to `total` in order. The groups depend on `rows` alone, so the sum does not depend on the number of threads.
template <typename F>
void reduce_over_rows(ThreadPool& pool, int64_t rows, int64_t width, float* total, F&& f) {
  constexpr int64_t kGroups = 16;
  const int64_t group_rows = (rows + kGroups - 1) / kGroups;
  std::vector<float> partial(static_cast<size_t>(kGroups * width), 0.0f);
  pool.parallel_for(kGroups, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t group = begin; group < end; ++group) {
      f(std::min(rows, group * group_rows), std::min(rows, (group + 1) * group_rows), partial.data() + group * width);
    }
  });
  for (int64_t group = 0; group < kGroups; ++group) {
    for (int64_t i = 0; i < width; ++i) total[i] += partial[group * width + i];
  }
}

void rms_norm_forward(ThreadPool& pool, float* out, const float* x, const float* weight, int64_t T, int64_t C,
                      float eps);
void rms_norm_backward(ThreadPool& pool, float* dx, float* dweight, const float* dout, const float* x,
                       const float* weight, int64_t T, int64_t C, float eps);

void qk_norm_rope_forward(ThreadPool& pool, float* out, const float* qkv, const float* q_norm, const float* k_norm,
                          const float* cos, const float* sin, const int32_t* positions, const AttentionShape& shape,
                          int64_t T, float eps);
void qk_norm_rope_backward(ThreadPool& pool, float* dqkv, float* dq_norm, float* dk_norm, const float* qkv,
                           const float* q_norm, const float* k_norm, const float* cos, const float* sin,
                           const int32_t* positions, const AttentionShape& shape, int64_t T, float eps);

void swiglu_forward(ThreadPool& pool, float* out, const float* gate_up, int64_t T, int64_t F);
void swiglu_backward(ThreadPool& pool, float* gate_up, const float* dout, int64_t T, int64_t F);

void embedding_backward(ThreadPool& pool, float* dtable, const float* dout, const int32_t* token_ids, int64_t T,
                        int64_t C);
void gather_rows(ThreadPool& pool, float* out, const float* x, const int32_t* rows, int64_t R, int64_t C);
void scatter_rows(ThreadPool& pool, float* x, const float* values, const int32_t* rows, int64_t R, int64_t C);
void combine_rows(ThreadPool& pool, float* out, const float* residual, const float* values, const int32_t* rows,
                  const float* shares, int64_t T, int64_t k, int64_t C);
void bias_backward(ThreadPool& pool, float* dbias, const float* dout, int64_t T, int64_t N);

void logprob_forward(ThreadPool& pool, float* logprobs, float* row_max, float* row_log_sum, float* row_entropy,
                     const float* logits, const Targets& targets, int64_t R, int64_t V, float temperature);
void logprob_backward(ThreadPool& pool, float* dlogits, const float* logits, const float* dlogprobs,
                      const float* row_max, const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                      float temperature);
void token_loss(float* dlogprobs, LossStats& stats, const float* logprobs, const float* row_entropy,
                const Targets& targets, const LossInputs& inputs, const LossSettings& settings);

double sum_squares(ThreadPool& pool, const float* values, int64_t count);
void adamw_step(ThreadPool& pool, float* weights, float* gradients, float* first_moment, float* second_moment,
                int64_t count, const AdamWStep& step);

}  // namespace wideseek::cpu
