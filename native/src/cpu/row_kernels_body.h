// The row kernels, over vector_math.h; included once per instruction set, after its target_*.h.
#pragma once

#include "cpu/row_kernels.h"
#include "cpu/vector_math.h"

namespace wideseek {
inline namespace WS_ISA {

// ---- RMSNorm

WS_INLINE float rstd_of(const float* x, int64_t n, float eps) {
  return 1.0f / std::sqrt(sum_squares(x, n) / static_cast<float>(n) + eps);
}

inline void rms_norm_row(float* out, const float* x, const float* weight, int64_t n, float eps) {
  const F16 rstd = splat(rstd_of(x, n, eps));
  for_each_vector(
      n, [=](int64_t i, auto lanes) { store(out + i, load(x + i, lanes) * rstd * load(weight + i, lanes), lanes); });
}

// With y = x rstd and g = dout weight: dx = rstd (g - y mean(g y)).
template <bool kAccumulate>
WS_INLINE void rms_norm_backward_body(float* dx, float* dweight, const float* dout, const float* x, const float* weight,
                                      int64_t n, float eps) {
  const float rstd = rstd_of(x, n, eps);
  const float dot_gx = sum_of(
      n, [=](int64_t i, auto lanes) { return load(dout + i, lanes) * load(weight + i, lanes) * load(x + i, lanes); });
  const F16 scale = splat(rstd);
  const F16 shrink = splat(-dot_gx * rstd * rstd / static_cast<float>(n));
  for_each_vector(n, [=](int64_t i, auto lanes) {
    const F16 d = load(dout + i, lanes);
    const F16 v = load(x + i, lanes);
    F16 value = scale * fma(v, shrink, d * load(weight + i, lanes));
    if constexpr (kAccumulate) value = load(dx + i, lanes) + value;
    store(dweight + i, fma(d, v * scale, load(dweight + i, lanes)), lanes);
    store(dx + i, value, lanes);
  });
}

inline void rms_norm_backward_row(float* dx, float* dweight, const float* dout, const float* x, const float* weight,
                                  int64_t n, float eps) {
  rms_norm_backward_body<true>(dx, dweight, dout, x, weight, n, eps);
}

// ---- rotary embedding of one head

inline void norm_rope_row(float* out, const float* x, const float* weight, const float* cos, const float* sin,
                          int64_t half, float eps) {
  const F16 rstd = splat(weight == nullptr ? 1.0f : rstd_of(x, 2 * half, eps));
  for_each_vector(half, [=](int64_t i, auto lanes) {
    F16 a = load(x + i, lanes);
    F16 b = load(x + half + i, lanes);
    if (weight != nullptr) {
      a = a * rstd * load(weight + i, lanes);
      b = b * rstd * load(weight + half + i, lanes);
    }
    const F16 c = load(cos + i, lanes);
    const F16 s = load(sin + i, lanes);
    store(out + i, a * c - b * s, lanes);
    store(out + half + i, b * c + a * s, lanes);
  });
}

inline void norm_rope_backward_row(float* dx, float* dweight, const float* x, const float* weight, const float* cos,
                                   const float* sin, int64_t half, float eps) {
  for_each_vector(half, [=](int64_t i, auto lanes) {
    const F16 a = load(dx + i, lanes);
    const F16 b = load(dx + half + i, lanes);
    const F16 c = load(cos + i, lanes);
    const F16 s = load(sin + i, lanes);
    store(dx + i, a * c + b * s, lanes);
    store(dx + half + i, b * c - a * s, lanes);
  });
  if (weight != nullptr) rms_norm_backward_body<false>(dx, dweight, dx, x, weight, 2 * half, eps);
}

// ---- SwiGLU

inline void swiglu_row(float* out, const float* gate, const float* up, int64_t n) {
  for_each_vector(n, [=](int64_t i, auto lanes) {
    const F16 g = load(gate + i, lanes);
    store(out + i, g * sigmoid(g) * load(up + i, lanes), lanes);
  });
}

// silu'(g) = s + g s (1 - s), s = sigmoid(g).
inline void swiglu_backward_row(float* gate, float* up, const float* dout, int64_t n) {
  for_each_vector(n, [=](int64_t i, auto lanes) {
    const F16 g = load(gate + i, lanes);
    const F16 u = load(up + i, lanes);
    const F16 d = load(dout + i, lanes);
    const F16 s = sigmoid(g);
    const F16 silu = g * s;
    store(gate + i, d * u * fma(silu, splat(1.0f) - s, s), lanes);
    store(up + i, d * silu, lanes);
  });
}

inline void add_row(float* x, const float* y, int64_t n) {
  for_each_vector(n, [=](int64_t i, auto lanes) { store(x + i, load(x + i, lanes) + load(y + i, lanes), lanes); });
}

inline void add_scaled_row(float* x, const float* y, float scale, int64_t n) {
  const F16 factor = splat(scale);
  for_each_vector(
      n, [=](int64_t i, auto lanes) { store(x + i, fma(load(y + i, lanes), factor, load(x + i, lanes)), lanes); });
}

// ---- next-token distribution

inline LogprobRow logprob_row(const float* logits, int64_t n, float inv_temperature) {
  const float largest = max(logits, n);
  const F16 shift = splat(largest);
  const F16 scale = splat(inv_temperature);
  const float total = sum_of(n, [=](int64_t i, auto lanes) { return exp((load(logits + i, lanes) - shift) * scale); });
  return {largest, log(total)};
}

// H = ln sum - (sum e z) / sum with z = (l - max) / T, e = exp(z). The first sum is that of logprob_row.
inline LogprobRow logprob_entropy_row(const float* logits, int64_t n, float inv_temperature, float* entropy) {
  const float largest = max(logits, n);
  const F16 shift = splat(largest);
  const F16 scale = splat(inv_temperature);
  F16 weighted = splat(0.0f);
  const float total = sum_of(n, [&](int64_t i, auto lanes) {
    const F16 z = (load(logits + i, lanes) - shift) * scale;
    const F16 e = exp(z);
    // z of a logit of minus infinity would make 0 * inf; such a term is 0 in the limit.
    const F16 term = e * max(z, splat(-104.0f));
    if constexpr (std::is_same_v<decltype(lanes), AllLanes>) {
      weighted = weighted + term;
    } else {
      weighted = weighted + keep(term, lanes);
    }
    return e;
  });
  const float log_sum = log(total);
  *entropy = log_sum - reduce_add(weighted) / total;
  return {largest, log_sum};
}

inline void scaled_softmax_row(float* logits, LogprobRow row, int64_t n, float inv_temperature, float scale) {
  const F16 shift = splat(row.max);
  const F16 log_sum = splat(row.log_sum);
  const F16 inverse = splat(inv_temperature);
  const F16 factor = splat(scale);
  for_each_vector(n, [=](int64_t i, auto lanes) {
    store(logits + i, factor * exp((load(logits + i, lanes) - shift) * inverse - log_sum), lanes);
  });
}

// ---- optimizer

inline double sum_squares_double(const float* x, int64_t n) {
  constexpr int kAccumulators = 32;
  double sums[kAccumulators] = {};
  int64_t i = 0;
  for (; i + kAccumulators <= n; i += kAccumulators) {
    for (int k = 0; k < kAccumulators; ++k) {
      const double value = x[i + k];
      sums[k] = sums[k] + value * value;
    }
  }
  for (int k = 0; i + k < n; ++k) {
    const double value = x[i + k];
    sums[k] = sums[k] + value * value;
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

inline void adamw_run(float* weights, float* gradients, float* first_moment, float* second_moment, int64_t n,
                      const AdamWFactors& factors) {
  const F16 decay = splat(factors.decay);
  const F16 negative_step = splat(-factors.step_size);
  const F16 inv_sqrt_bias2 = splat(factors.inv_sqrt_bias2);
  const F16 epsilon = splat(factors.epsilon);
  const F16 beta1 = splat(factors.beta1), rest1 = splat(factors.one_minus_beta1);
  const F16 beta2 = splat(factors.beta2), rest2 = splat(factors.one_minus_beta2);
  const F16 scale = splat(factors.gradient_scale);
  for_each_vector(n, [=](int64_t i, auto lanes) {
    const F16 gradient = load(gradients + i, lanes) * scale;
    const F16 first = fma(load(first_moment + i, lanes), beta1, gradient * rest1);
    const F16 second = fma(load(second_moment + i, lanes), beta2, gradient * gradient * rest2);
    const F16 denominator = fma(sqrt(second), inv_sqrt_bias2, epsilon);
    store(first_moment + i, first, lanes);
    store(second_moment + i, second, lanes);
    store(weights + i, fma(negative_step, first / denominator, load(weights + i, lanes) * decay), lanes);
    store(gradients + i, splat(0.0f), lanes);
  });
}

inline constexpr RowKernels kRowKernels = {
    rms_norm_row, rms_norm_backward_row, norm_rope_row, norm_rope_backward_row, swiglu_row,         swiglu_backward_row,
    add_row,      add_scaled_row,        logprob_row,   logprob_entropy_row,    scaled_softmax_row, sum_squares_double,
    adamw_run,
};

}  // namespace WS_ISA
}  // namespace wideseek
