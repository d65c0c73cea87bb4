// The next-token distribution of rows of fp32 logits, and its gradient. Contracts: backend.h.
#pragma once

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// scratch: logprob_forward_scratch(R) floats.
int64_t logprob_forward_scratch(int64_t R);
void logprob_forward(Stream stream, float* logprobs, float* row_max, float* row_log_sum, float* row_entropy,
                     const float* logits, const Targets& targets, int64_t R, int64_t V, float temperature,
                     float* scratch);

// scratch: logprob_backward_scratch(R) floats.
int64_t logprob_backward_scratch(int64_t R);
void logprob_backward(Stream stream, TypedPointer dlogits, const float* logits, const float* dlogprobs,
                      const float* row_max, const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                      float temperature, float* scratch);

}  // namespace wideseek::cuda
