// Log-probabilities, entropies and their gradients from rows of logits; the one order that sampling and training share.
#include <algorithm>

#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek {

float row_logprob(const float* logits, int64_t vocab_size, int32_t token, float temperature) {
  const float inv_temperature = 1.0f / temperature;
  return target_logprob(logits, row_kernels().logprob(logits, vocab_size, inv_temperature), token, inv_temperature);
}

void row_softmax(const float* logits, int64_t vocab_size, float temperature, float* probabilities) {
  const float inv_temperature = 1.0f / temperature;
  const LogprobRow row = row_kernels().logprob(logits, vocab_size, inv_temperature);
  std::copy(logits, logits + vocab_size, probabilities);
  row_kernels().scaled_softmax(probabilities, row, vocab_size, inv_temperature, 1);
}

namespace cpu {

void logprob_forward(ThreadPool& pool, float* logprobs, float* row_max, float* row_log_sum, float* row_entropy,
                     const float* logits, const Targets& targets, int64_t R, int64_t V, float temperature) {
  const RowKernels& kernels = row_kernels();
  const float inv_temperature = 1.0f / temperature;
  pool.parallel_for(R, row_grain(V), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const LogprobRow row = kernels.logprob_entropy(logits + r * V, V, inv_temperature, row_entropy + r);
      row_max[r] = row.max;
      row_log_sum[r] = row.log_sum;
    }
  });
  for (int64_t k = 0; k < targets.num_targets; ++k) {
    const int64_t r = targets.rows[k];
    logprobs[k] = target_logprob(logits + r * V, {row_max[r], row_log_sum[r]}, targets.tokens[k], inv_temperature);
  }
}

// d logprob_k / d logit_j = ([j is token k] - softmax_j) / T.
void logprob_backward(ThreadPool& pool, float* dlogits, const float* logits, const float* dlogprobs,
                      const float* row_max, const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                      float temperature) {
  const RowKernels& kernels = row_kernels();
  const float inv_temperature = 1.0f / temperature;
  std::vector<float> row_sums(static_cast<size_t>(R), 0.0f);
  for (int64_t k = 0; k < targets.num_targets; ++k) row_sums[targets.rows[k]] += dlogprobs[k];
  pool.parallel_for(R, row_grain(V), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = dlogits + r * V;
      if (dlogits != logits) std::copy(logits + r * V, logits + (r + 1) * V, row);
      kernels.scaled_softmax(row, {row_max[r], row_log_sum[r]}, V, inv_temperature, -row_sums[r] * inv_temperature);
    }
  });
  for (int64_t k = 0; k < targets.num_targets; ++k) {
    dlogits[targets.rows[k] * V + targets.tokens[k]] += dlogprobs[k] * inv_temperature;
  }
}

}  // namespace cpu
}  // namespace wideseek
