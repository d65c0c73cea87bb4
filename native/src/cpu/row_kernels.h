// Kernels on one row (or one run of elements), one set per instruction set; the operations above them only hand out
// rows. All give the same bits on every instruction set and wherever in a batch the row lies.
#pragma once

#include <cstdint>

namespace wideseek {

struct AdamWFactors {
  float decay;           // 1 - learning_rate * weight_decay
  float step_size;       // learning_rate / (1 - beta1^t)
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float beta1, one_minus_beta1, beta2, one_minus_beta2;
  float gradient_scale;
};

struct LogprobRow {
  float max;      // of the raw logits
  float log_sum;  // ln sum exp((l - max) / T)
};

struct RowKernels {
  // out = x * rstd * weight; out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps);
  // dx += , dweight += .
  void (*rms_norm_backward)(float* dx, float* dweight, const float* dout, const float* x, const float* weight,
                            int64_t n, float eps);
  // One head of n = 2*half elements: norm (weight null: none), then rotation. out may be x.
  void (*norm_rope)(float* out, const float* x, const float* weight, const float* cos, const float* sin, int64_t half,
                    float eps);
  // dx in place. dweight += , when weight is not null.
  void (*norm_rope_backward)(float* dx, float* dweight, const float* x, const float* weight, const float* cos,
                             const float* sin, int64_t half, float eps);
  // out = silu(gate) * up
  void (*swiglu)(float* out, const float* gate, const float* up, int64_t n);
  // gate and up become their gradients.
  void (*swiglu_backward)(float* gate, float* up, const float* dout, int64_t n);
  // x += y
  void (*add)(float* x, const float* y, int64_t n);
  // x += y * scale, fused.
  void (*add_scaled)(float* x, const float* y, float scale, int64_t n);
  LogprobRow (*logprob)(const float* logits, int64_t n, float inv_temperature);
  // The same, with the entropy.
  LogprobRow (*logprob_entropy)(const float* logits, int64_t n, float inv_temperature, float* entropy);
  // logits = softmax * scale, in place.
  void (*scaled_softmax)(float* logits, LogprobRow row, int64_t n, float inv_temperature, float scale);
  double (*sum_squares)(const float* x, int64_t n);
  void (*adamw)(float* weights, float* gradients, float* first_moment, float* second_moment, int64_t n,
                const AdamWFactors& factors);
};

// For this process's instruction set (isa.h).
const RowKernels& row_kernels();

// ln softmax(logits / T)[token], given that row's statistics.
inline float target_logprob(const float* logits, LogprobRow row, int64_t token, float inv_temperature) {
  return (logits[token] - row.max) * inv_temperature - row.log_sum;
}

}  // namespace wideseek
