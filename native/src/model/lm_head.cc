// Final norm and LM head on gathered rows, forward and backward.
#include "model/lm_head.h"

namespace wideseek {

void lm_head_logits(Model::State& model, float* logits, TypedPointer gathered, TypedPointer normed, ConstTypedPointer x,
                    const int32_t* rows, int64_t num_rows) {
  const int64_t hidden = model.config.hidden_size;
  model.backend.gather_rows(gathered, x, rows, num_rows, hidden);
  model.backend.rms_norm_forward(normed, gathered, model.vector(model.table.final_norm), num_rows, hidden, model.eps());
  model.backend.linear_forward(logits, normed, model.matrix(model.table.lm_head), nullptr, {}, num_rows);
}

void lm_head_backward(Model::State& model, TypedPointer dx, TypedPointer gradients, ConstTypedPointer dlogits,
                      ConstTypedPointer gathered, TypedPointer normed, TypedPointer dgathered, const int32_t* rows,
                      int64_t num_rows) {
  Backend& backend = model.backend;
  const int64_t hidden = model.config.hidden_size;
  const auto gradient = [&](int64_t tensor) { return gradients + model.table.tensors[tensor].gradient_offset; };
  backend.linear_backward_weight(gradient(model.table.lm_head), dlogits, normed, num_rows, model.config.vocab_size,
                                 hidden);
  backend.linear_backward_input(normed, dlogits, model.matrix(model.table.lm_head), num_rows);
  backend.zero(dgathered.data, num_rows * hidden * dtype_bytes(dgathered.dtype));
  backend.rms_norm_backward(dgathered, gradient(model.table.final_norm), normed, gathered,
                            model.vector(model.table.final_norm), num_rows, hidden, model.eps());
  backend.scatter_rows(dx, dgathered, rows, num_rows, hidden);
}

}  // namespace wideseek
