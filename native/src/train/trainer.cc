// The packed forward and backward pass, chunked over LM-head rows, and the optimizer step.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "train/trainer_state.h"

namespace wideseek {
namespace {

constexpr int64_t kFloat = sizeof(float);

}  // namespace

Trainer::Trainer(Model& model, const TrainerOptions& options, LendMemory lend)
    : state_(std::make_unique<State>(model.state(), options, std::move(lend))) {}
Trainer::~Trainer() = default;

int64_t Trainer::pass_bytes(Model& model, const TrainerOptions& options) {
  if (model.config().moe) return 0;
  Arena size(nullptr), forward_size(nullptr);
  plan_backward(size, model.state(), options, plan_forward(forward_size, model.state(), options));
  return size.used();
}

int64_t Trainer::optimizer_state_bytes(Model& model) {
  const Model::State& state = model.state();
  if (state.config.moe) return 0;
  return state.table.num_flat_elements * kFloat * (state.weight_dtype == DType::kFloat32 ? 2 : 3);
}

int64_t Trainer::planned_bytes(Model& model, const TrainerOptions& options) {
  const Model::State& state = model.state();
  Arena arena(nullptr);
  const ForwardWorkspace forward = plan_forward(arena, state, options);
  const int64_t indices = 5 * options.max_tokens * static_cast<int64_t>(sizeof(int32_t));
  const int64_t more_positions =
      std::max<int64_t>(0, num_positions(state.config, options) - state.num_positions) * state.config.head_dim * kFloat;
  if (state.config.moe) {
    return arena.used() + indices + more_positions + state.backend.reserved_bytes(pass_limits(state, options, false)) +
           kv_layer_bytes(state, planned_kv_blocks(options));
  }
  plan_backward(arena, state, options, forward);
  return arena.used() + indices + more_positions + state.backend.reserved_bytes(pass_limits(state, options, true)) +
         2 * kv_layer_bytes(state, planned_kv_blocks(options)) +
         state.table.num_flat_elements * dtype_bytes(options.gradient_dtype) + optimizer_state_bytes(model);
}

void Trainer::logprobs(const PackedBatch& batch, float temperature, float* logprobs, float* entropies) {
  State& state = *state_;
  const int64_t vocab_size = state.model.config.vocab_size;
  validate(batch, vocab_size, state.options.max_tokens);
  WS_CHECK(std::isfinite(temperature) && temperature > 0, kInvalidArgument, "Trainer::logprobs",
           "temperature: got " + std::to_string(temperature) + ", must be finite and above 0");
  std::fill(logprobs, logprobs + batch.num_tokens, 0.0f);
  std::fill(entropies, entropies + batch.num_tokens, 0.0f);

  std::vector<int64_t> lengths;
  std::vector<bool> is_target(static_cast<size_t>(batch.num_tokens), true);
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    lengths.push_back(batch.cu_seqlens[s + 1] - batch.cu_seqlens[s] - 1);  // the last token predicts nothing here
    is_target[batch.cu_seqlens[s]] = false;
  }
  const PrefixForest forest = build_prefix_forest(batch.token_ids, batch.cu_seqlens, lengths.data(),
                                                  batch.num_sequences, state.options.share_prefixes);
  if (forest.num_rows() == 0) return;
  const TargetPlan plan = plan_targets(batch, forest, is_target, lm_head_chunk_rows(state.model));
  const auto attention = state.plan_attention(forest);
  const RowBatch rows = state.upload_rows(forest, *attention);
  state.upload_targets(plan);
  const TypedPointer x = state.score_layers(rows);

  std::vector<float> values(plan.tokens.size());
  std::vector<float> row_entropies(plan.logit_rows.size());
  for (const TargetPlan::Chunk& chunk : plan.chunks) state.chunk_logprobs(chunk, x, temperature);
  state.backend.download(row_entropies.data(), state.forward.row_entropy,
                         static_cast<int64_t>(row_entropies.size()) * kFloat);
  for (const TargetPlan::Chunk& chunk : plan.chunks) {
    for (int64_t k = chunk.first_target; k < chunk.first_target + chunk.num_targets; ++k) {
      entropies[plan.tokens[k]] = row_entropies[chunk.first_row + plan.chunk_rows[k]];
    }
  }
  state.backend.download(values.data(), state.forward.logprobs, static_cast<int64_t>(values.size()) * kFloat);
  for (size_t k = 0; k < values.size(); ++k) logprobs[plan.tokens[k]] = values[k];
}

LossStats Trainer::forward_backward(const PackedBatch& batch, const LossSettings& loss, float* logprobs) {
  State& state = *state_;
  const int64_t vocab_size = state.model.config.vocab_size;
  validate(batch, vocab_size, state.options.max_tokens);
  validate(batch, loss);
  const ForwardWorkspace& forward = state.forward;
  const BackwardWorkspace& work = state.begin_pass();
  if (logprobs != nullptr) std::fill(logprobs, logprobs + batch.num_tokens, 0.0f);

  // A sequence ends, for the loss, at the row that predicts its last trained token.
  std::vector<bool> is_target(static_cast<size_t>(batch.num_tokens), false);
  std::vector<int64_t> lengths(static_cast<size_t>(batch.num_sequences), 0);
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    for (int64_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      if (batch.loss_weights[t] == 0) continue;
      is_target[t] = true;
      lengths[s] = t - batch.cu_seqlens[s];
    }
  }
  LossStats stats{};
  const PrefixForest forest = build_prefix_forest(batch.token_ids, batch.cu_seqlens, lengths.data(),
                                                  batch.num_sequences, state.options.share_prefixes);
  if (forest.num_rows() == 0) return stats;
  const TargetPlan plan = plan_targets(batch, forest, is_target, lm_head_chunk_rows(state.model));
  const auto attention = state.plan_attention(forest);
  const RowBatch rows = state.upload_rows(forest, *attention);
  state.upload_targets(plan);

  std::vector<float> values(plan.tokens.size());
  const auto upload_per_target = [&](float* out, const float* source) -> const float* {
    if (source == nullptr) return nullptr;
    for (size_t k = 0; k < values.size(); ++k) values[k] = source[plan.tokens[k]];
    state.backend.upload(out, values.data(), static_cast<int64_t>(values.size()) * kFloat);
    return out;
  };
  const LossInputs inputs{upload_per_target(work.weights, batch.loss_weights),
                          upload_per_target(work.advantages, batch.advantages),
                          upload_per_target(work.behavior_logprobs, batch.behavior_logprobs),
                          upload_per_target(work.ref_logprobs, batch.ref_logprobs)};
  const auto from = [](const float* values, int64_t first) { return values == nullptr ? nullptr : values + first; };

  const TypedPointer x = state.forward_layers(rows);
  state.backend.zero(work.stats, sizeof(LossStats));
  state.backend.zero(work.dx.data, rows.num_rows * state.model.config.hidden_size * dtype_bytes(work.dx.dtype));
  for (const TargetPlan::Chunk& chunk : plan.chunks) {
    state.chunk_logprobs(chunk, x, loss.temperature);
    const int64_t first = chunk.first_target;
    const Targets targets = state.chunk_targets(chunk);
    state.backend.token_loss(work.dlogprobs + first, work.stats, forward.logprobs + first,
                             forward.row_entropy + chunk.first_row, targets,
                             {from(inputs.weights, first), from(inputs.advantages, first),
                              from(inputs.behavior_logprobs, first), from(inputs.ref_logprobs, first)},
                             loss);
    state.backend.logprob_backward(work.dlogits, forward.logits, work.dlogprobs + first, forward.row_max,
                                   forward.row_log_sum, targets, chunk.num_rows, vocab_size, loss.temperature);
    lm_head_backward(state.model, work.dx, state.gradients(), work.dlogits, forward.gathered, forward.final_normed,
                     work.dgathered, state.index_array(2) + chunk.first_row, chunk.num_rows);
  }
  state.backward_layers(rows);

  // The one wait of the pass.
  state.backend.download(&stats, work.stats, sizeof(stats));
  if (logprobs != nullptr) {
    state.backend.download(values.data(), forward.logprobs, static_cast<int64_t>(values.size()) * kFloat);
    for (size_t k = 0; k < values.size(); ++k) logprobs[plan.tokens[k]] = values[k];
  }
  return stats;
}

void Trainer::zero_gradients() {
  if (!state_->maybe_training) return;
  const DeviceArray<std::byte>& gradients = state_->maybe_training->gradients;
  state_->backend.zero(gradients.get(), gradients.bytes());
}

OptimizerStepResult Trainer::optimizer_step(const OptimizerSettings& settings) {
  State& state = *state_;
  const double norm = std::sqrt(state.backend.sum_squares(state.gradients(), state.model.table.num_flat_elements));
  if (!std::isfinite(norm)) {
    zero_gradients();
    return {norm, true};
  }
  ++state.num_steps;
  AdamWStep step{settings.learning_rate, settings.beta1, settings.beta2, settings.epsilon, 0.0, 1.0, state.num_steps};
  // As torch.nn.utils.clip_grad_norm_.
  if (std::isfinite(settings.max_grad_norm)) {
    step.gradient_scale = std::min(1.0, settings.max_grad_norm / (norm + 1e-6));
  }
  for (size_t index = 0; index < state.model.table.tensors.size(); ++index) {
    step.weight_decay = state.model.table.tensors[index].decayed ? settings.weight_decay : 0.0;
    state.update_tensor(static_cast<int64_t>(index), step);
  }
  state.backend.synchronize();
  return {norm, false};
}

void Trainer::read_tensor(TensorKind kind, int64_t parameter, float* data) {
  const TypedPointer flat = state_->flat(kind);
  if (!flat) {
    state_->model.read_fp32(parameter, data);
    return;
  }
  const int64_t count = state_->model.table.parameters[parameter].num_elements();
  std::vector<std::byte> stored(static_cast<size_t>(count * dtype_bytes(flat.dtype)));
  state_->backend.download(stored.data(), (flat + state_->model.table.flat_offset(parameter)).data,
                           static_cast<int64_t>(stored.size()));
  convert_to_float(stored.data(), flat.dtype, data, count);
}

void Trainer::write_tensor(TensorKind kind, int64_t parameter, const float* data) {
  const TypedPointer flat = state_->flat(kind);
  if (!flat) {
    state_->model.write_fp32(parameter, data);
    return;
  }
  const int64_t count = state_->model.table.parameters[parameter].num_elements();
  std::vector<std::byte> stored(static_cast<size_t>(count * dtype_bytes(flat.dtype)));
  convert_from_float(data, stored.data(), flat.dtype, count);
  state_->backend.upload((flat + state_->model.table.flat_offset(parameter)).data, stored.data(),
                         static_cast<int64_t>(stored.size()));
}

int64_t Trainer::num_steps() const { return state_->num_steps; }
void Trainer::set_num_steps(int64_t steps) { state_->num_steps = steps; }

}  // namespace wideseek
