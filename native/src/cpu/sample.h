// Draws tokens from rows of logits. Every draw is a pure function of its request and its row.
#pragma once

#include <vector>

#include "backend.h"
#include "cpu/threads.h"

namespace wideseek::cpu {

// Scratch of one thread, reused between rows.
struct SampleWorkspace {
  std::vector<float> penalized;     // logits after the repetition penalty
  std::vector<float> weights;       // softmax at the temperature, before the filters
  std::vector<double> chunk_sums;   // of runs of weights
  std::vector<float> scratch;       // weights in another order
  std::vector<int32_t> candidates;  // tokens that the filters keep
};

// tokens [R], for rows of logits [R,V].
void sample(ThreadPool& pool, std::vector<SampleWorkspace>& workspaces, SampledToken* tokens, const float* logits,
            const SampleRequest* requests, int64_t R, int64_t V);

}  // namespace wideseek::cpu
