// Router, grouped products and their sum.
#include "model/experts.h"

#include <algorithm>
#include <vector>

#include "model/router.h"

namespace wideseek {

int64_t activation_elements(const ModelConfig& config, int64_t R) {
  if (!config.moe) return R * config.intermediate_size;
  const std::vector<bool>& layers = config.moe->layers;
  const bool any_dense = std::find(layers.begin(), layers.end(), false) != layers.end();
  return std::max(any_dense ? R * config.intermediate_size : 0,
                  R * config.moe->experts_per_token * config.moe->intermediate_size);
}

ExpertScratch plan_experts(Arena& arena, const Model::State& model, int64_t R) {
  if (!model.config.moe) return {};
  const MoeConfig& moe = *model.config.moe;
  const int64_t rows = R * moe.experts_per_token;
  ExpertScratch scratch{};
  scratch.router_logits = arena.take_floats(R * moe.num_experts);
  scratch.rows = arena.take(rows * model.config.hidden_size, model.backend.activation_dtype());
  scratch.row_tokens = arena.take_int32s(rows);
  scratch.token_rows = arena.take_int32s(rows);
  scratch.shares = arena.take_floats(rows);
  return scratch;
}

void experts_forward(Model::State& model, const LayerTensors& tensors, const LayerScratch& scratch, TypedPointer out,
                     ConstTypedPointer residual, int64_t R) {
  Backend& backend = model.backend;
  const MoeConfig& moe = *model.config.moe;
  const ExpertScratch& experts = scratch.experts;
  const int64_t E = moe.num_experts, k = moe.experts_per_token;
  const int64_t hidden = model.config.hidden_size;
  backend.linear_forward(experts.router_logits, scratch.normed, model.matrix(tensors.router), nullptr, {}, R);
  std::vector<float> logits(static_cast<size_t>(R * E));
  backend.download(logits.data(), experts.router_logits, R * E * static_cast<int64_t>(sizeof(float)));
  const Routing routing = route(logits.data(), R, moe);
  const auto upload = [&](void* to, const auto& values) {
    backend.upload(to, values.data(), static_cast<int64_t>(values.size() * sizeof(values[0])));
  };
  upload(experts.row_tokens, routing.row_tokens);
  upload(experts.token_rows, routing.token_rows);
  upload(experts.shares, routing.shares);

  std::vector<const Weight*> gate_up, down;
  for (const MlpTensors& expert : tensors.experts) {
    gate_up.push_back(&model.matrix(expert.gate_up));
    down.push_back(&model.matrix(expert.down));
  }
  const int64_t* first_rows = routing.first_rows.data();
  backend.gather_rows(experts.rows, scratch.normed, experts.row_tokens, R * k, hidden);
  backend.expert_linear_forward(scratch.gate_up, experts.rows, gate_up.data(), first_rows, E);
  backend.swiglu_forward(scratch.activation, scratch.gate_up, R * k, moe.intermediate_size);
  backend.expert_linear_forward(experts.rows, scratch.activation, down.data(), first_rows, E);
  backend.combine_rows(out, residual, experts.rows, experts.token_rows, experts.shares, R, k, hidden);
}

}  // namespace wideseek
