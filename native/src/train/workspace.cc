// Sizes and places of a trainer's arrays.
#include "train/workspace.h"

#include <algorithm>

#include "model/experts.h"
#include "model/lm_head.h"

namespace wideseek {

ForwardWorkspace plan_forward(Arena& arena, const Model::State& model, const TrainerOptions& options) {
  const ModelConfig& config = model.config;
  const int64_t tokens = options.max_tokens;
  const int64_t layer_rows = std::min(tokens, model.backend.chunk_sizes().layer_rows);
  const int64_t chunk_rows = lm_head_chunk_rows(model);
  const DType dtype = model.backend.activation_dtype();
  ForwardWorkspace work{};
  work.x = arena.take(tokens * config.hidden_size, dtype);
  work.qkv = arena.take(tokens * model.attention.qkv_size(), dtype);
  work.attention_output = arena.take(tokens * config.num_heads * config.head_dim, dtype);
  work.normed = arena.take(layer_rows * config.hidden_size, dtype);
  work.activation = arena.take(activation_elements(config, layer_rows), dtype);
  work.gate_up = arena.take(2 * activation_elements(config, layer_rows), dtype);
  work.experts = plan_experts(arena, model, layer_rows);
  work.logits = arena.take_floats(chunk_rows * config.vocab_size);
  work.gathered = arena.take(chunk_rows * config.hidden_size, dtype);
  work.final_normed = arena.take(chunk_rows * config.hidden_size, dtype);
  for (float** part : {&work.row_max, &work.row_log_sum}) *part = arena.take_floats(chunk_rows);
  work.row_entropy = arena.take_floats(tokens);
  work.logprobs = arena.take_floats(tokens);
  return work;
}

BackwardWorkspace plan_backward(Arena& arena, const Model::State& model, const TrainerOptions& options,
                                const ForwardWorkspace& forward) {
  const ModelConfig& config = model.config;
  const int64_t tokens = options.max_tokens;
  const int64_t hidden = config.hidden_size;
  const int64_t qkv_size = model.attention.qkv_size();
  const int64_t attention_size = config.num_heads * config.head_dim;
  const int64_t chunk_rows = lm_head_chunk_rows(model);
  const DType dtype = model.backend.activation_dtype();
  BackwardWorkspace work{};
  work.layer_inputs.push_back(forward.x);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    work.layer_inputs.push_back(arena.take(tokens * hidden, dtype));
  }
  const int64_t kept_layers = options.recompute == Recompute::kFull ? 1 : config.num_layers;
  for (int64_t layer = 0; layer < kept_layers; ++layer) {
    LayerActivations kept{};
    kept.qkv = layer == 0 ? forward.qkv : arena.take(tokens * qkv_size, dtype);
    kept.attention_output = layer == 0 ? forward.attention_output : arena.take(tokens * attention_size, dtype);
    kept.lse = arena.take_floats(tokens * config.num_heads);
    kept.residual = arena.take(tokens * hidden, dtype);
    if (options.recompute == Recompute::kNone) kept.gate_up = arena.take(tokens * 2 * config.intermediate_size, dtype);
    work.activations.push_back(kept);
  }
  work.qkv_rotated = arena.take(tokens * qkv_size, dtype);
  work.dqkv = arena.take(tokens * qkv_size, dtype);
  work.dattention = arena.take(tokens * attention_size, dtype);
  work.dx = arena.take(tokens * hidden, dtype);
  const bool in_place = dtype == DType::kFloat32;
  work.dlogits = in_place ? TypedPointer(forward.logits) : arena.take(chunk_rows * config.vocab_size, dtype);
  work.dgathered = arena.take(chunk_rows * hidden, dtype);
  for (float** part : {&work.dlogprobs, &work.weights, &work.advantages, &work.behavior_logprobs, &work.ref_logprobs}) {
    *part = arena.take_floats(tokens);
  }
  work.stats = static_cast<LossStats*>(arena.take(sizeof(LossStats) / sizeof(float), DType::kFloat32).data);
  return work;
}

LayerScratch forward_scratch(const ForwardWorkspace& forward) {
  return {forward.normed, forward.activation, forward.gate_up, forward.qkv, {}, {}, forward.experts};
}

LayerScratch training_scratch(const ForwardWorkspace& forward, const BackwardWorkspace& backward) {
  return {forward.normed,       forward.activation, forward.gate_up,
          backward.qkv_rotated, backward.dqkv,      backward.dattention};
}

PassLimits pass_limits(const Model::State& model, const TrainerOptions& options, bool backward) {
  return {model.attention, model.config.hidden_size, options.max_tokens, lm_head_chunk_rows(model), backward};
}

int64_t planned_kv_blocks(const TrainerOptions& options) {
  return options.max_tokens / kKvBlockTokens + options.max_tokens / 128 + 16;
}

int64_t kv_layer_bytes(const Model::State& model, int64_t blocks) {
  const int64_t elements = blocks * kKvBlockTokens * model.config.num_kv_heads * model.config.head_dim;
  return 2 * elements * dtype_bytes(model.backend.activation_dtype());
}

}  // namespace wideseek
