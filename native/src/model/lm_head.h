// From hidden states to next-token log-probabilities and back, a chunk of rows at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "model/state.h"

namespace wideseek {

// Rows whose logits exist at one time.
inline int64_t lm_head_chunk_rows(const Model::State& model) {
  return std::clamp<int64_t>(model.backend.chunk_sizes().logits_elements / model.config.vocab_size, 64, 2048);
}

// logits [R,V] = lm_head(final_norm(x[rows])). gathered, normed [R,C] are overwritten and may be one array. `rows`
// (device) must be distinct.
void lm_head_logits(Model::State& model, float* logits, TypedPointer gathered, TypedPointer normed, ConstTypedPointer x,
                    const int32_t* rows, int64_t num_rows);

// dx[rows] = gradient of x[rows], from dlogits [R,V] and the arrays that lm_head_logits left (gathered and normed
// apart). `gradients` is the flat array, accumulated. normed and dgathered [R,C] are overwritten.
void lm_head_backward(Model::State& model, TypedPointer dx, TypedPointer gradients, ConstTypedPointer dlogits,
                      ConstTypedPointer gathered, TypedPointer normed, TypedPointer dgathered, const int32_t* rows,
                      int64_t num_rows);

}  // namespace wideseek
