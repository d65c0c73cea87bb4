// Merges the results of spans that attention has left in memory.
#pragma once

#include "cuda/attention_parts.h"
#include "cuda/attention_span.h"

namespace wideseek::cuda {

// out and lse (may be null) of the rows of a wave. Head size 64 or 128.
void merge_partials(Stream stream, BF16* out, float* lse, const Partials& partials, const CudaAttentionPlan& plan,
                    const PartWave& wave);

}  // namespace wideseek::cuda
