// Draws tokens from rows of logits on the device: where the logits are equal to the bit, the tokens of cpu/sample.cc.
#pragma once

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// As Backend::sample; takes temporary memory of the backend.
void sample(Backend& backend, Stream stream, SampledToken* tokens, const float* logits, const SampleRequest* requests,
            int64_t R, int64_t V);

}  // namespace wideseek::cuda
