// The MLP of a layer with experts: rows are grouped by expert, and only what the router chose is computed.
#pragma once

#include "base/arena.h"
#include "model/state.h"

namespace wideseek {

// Elements of LayerScratch::activation for R rows, whichever MLPs the model has.
int64_t activation_elements(const ModelConfig& config, int64_t R);
ExpertScratch plan_experts(Arena& arena, const Model::State& model, int64_t R);

// out [R,C] = residual + the experts' shares of scratch.normed [R,C]. out may be residual. A row is one chain from the
// residual over its experts, ascending, so it depends on nothing but itself.
void experts_forward(Model::State& model, const LayerTensors& tensors, const LayerScratch& scratch, TypedPointer out,
                     ConstTypedPointer residual, int64_t R);

}  // namespace wideseek
