// The packed forward and backward pass, chunked over LM-head rows, and the optimizer step.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/lm_head.h"
#include "model/state.h"
#include "train/prefix_forest.h"
#include "train/target_plan.h"
#include "train/workspace.h"

namespace wideseek {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Positions that a batch may use.
int64_t num_positions(const ModelConfig& config, const TrainerOptions& options) {
  return std::min(options.max_tokens, config.max_position_embeddings);
}

}  // namespace

// The memory of training, taken by the first operation that needs it: a frozen reference only scores.
struct Training {
  DeviceArray<std::byte> arena;
  BackwardWorkspace work;
  DeviceArray<std::byte> dkv;                      // gradients of keys and values of one layer
  DeviceArray<std::byte> gradients;                // of all weights, flat, see ParameterTable
  DeviceArray<float> first_moment, second_moment;  // flat
};

struct Trainer::State {
  State(Model::State& model, const TrainerOptions& options);

  Model::State& model;
  Backend& backend;
  TrainerOptions options;
  DeviceArray<std::byte> arena;
  ForwardWorkspace forward;
  DeviceArray<int32_t> indices;  // [5, max_tokens]: token ids, positions, logit rows, target rows, target token ids
  DeviceArray<std::byte> kv;     // keys and values of one layer
  int64_t kv_blocks = 0;
  std::unique_ptr<Training> maybe_training;
  int64_t num_steps = 0;

  Training& training();
  TypedPointer gradients() { return {training().gradients.get(), options.gradient_dtype}; }
  int32_t* index_array(int64_t index) { return indices.get() + index * options.max_tokens; }
  void reserve_blocks(int64_t count);
  KvBlocks blocks_in(const DeviceArray<std::byte>& array) const;
  std::unique_ptr<AttentionPlan> plan_attention(const PrefixForest& forest);
  RowBatch upload_rows(const PrefixForest& forest, const AttentionPlan& attention);
  void upload_targets(const TargetPlan& plan);
  // Run the layers and return the input of the final norm; the second keeps what the backward pass reads.
  TypedPointer score_layers(const RowBatch& rows);
  TypedPointer forward_layers(const RowBatch& rows);
  void backward_layers(const RowBatch& rows);
  LayerActivations activations_of(int64_t layer);
  Targets chunk_targets(const TargetPlan::Chunk& chunk);
  void chunk_logprobs(const TargetPlan::Chunk& chunk, ConstTypedPointer x, float temperature);
  void update_tensor(int64_t index, const AdamWStep& step);
  // The flat array of a kind, null for weights.
  TypedPointer flat(TensorKind kind);
};

Trainer::State::State(Model::State& model, const TrainerOptions& options)
    : model(model), backend(model.backend), options(options) {
  WS_CHECK(options.max_tokens >= 1 && options.max_tokens <= (int64_t{1} << 28), kInvalidArgument, "Trainer",
           "max_tokens: got " + std::to_string(options.max_tokens) + ", must be in [1, 2^28]");
  WS_CHECK(options.gradient_dtype == DType::kFloat32 || backend.name() != "cpu", kUnsupported, "Trainer",
           "gradient dtype: got bfloat16, the CPU keeps gradients as float32");
  Arena size(nullptr);
  plan_forward(size, model, options);
  arena = DeviceArray<std::byte>(backend, size.used());
  Arena parts(arena.get());
  forward = plan_forward(parts, model, options);
  indices = DeviceArray<int32_t>(backend, 5 * options.max_tokens);
  model.reserve_positions(num_positions(model.config, options));
  backend.reserve(pass_limits(model, options, false));
  reserve_blocks(planned_kv_blocks(options));
}

Training& Trainer::State::training() {
  if (maybe_training) return *maybe_training;
  WS_CHECK(!model.config.moe, kUnsupported, "Trainer",
           "training a mixture-of-experts model; such a model generates and scores only");
  auto taken = std::make_unique<Training>();
  Arena size(nullptr);
  plan_backward(size, model, options, forward);
  taken->arena = DeviceArray<std::byte>(backend, size.used());
  Arena parts(taken->arena.get());
  taken->work = plan_backward(parts, model, options, forward);
  taken->dkv = DeviceArray<std::byte>(backend, kv_layer_bytes(model, kv_blocks));
  const int64_t count = model.table.num_flat_elements;
  taken->gradients = DeviceArray<std::byte>(backend, count * dtype_bytes(options.gradient_dtype));
  backend.zero(taken->gradients.get(), taken->gradients.bytes());
  for (DeviceArray<float>* moment : {&taken->first_moment, &taken->second_moment}) {
    *moment = DeviceArray<float>::optimizer_state(backend, count);
    backend.zero(moment->get(), moment->bytes());
  }
  model.ensure_master();
  backend.reserve(pass_limits(model, options, true));
  maybe_training = std::move(taken);
  return *maybe_training;
}

// Short sequences leave blocks partly empty, so their number has no useful bound by max_tokens: the arrays grow.
void Trainer::State::reserve_blocks(int64_t count) {
  if (count <= kv_blocks) return;
  const int64_t bytes = kv_layer_bytes(model, count);
  kv_blocks = 0;
  kv = DeviceArray<std::byte>();
  kv = DeviceArray<std::byte>(backend, bytes);
  if (maybe_training) {
    maybe_training->dkv = DeviceArray<std::byte>();
    maybe_training->dkv = DeviceArray<std::byte>(backend, bytes);
  }
  kv_blocks = count;
}

KvBlocks Trainer::State::blocks_in(const DeviceArray<std::byte>& array) const {
  const TypedPointer keys(array.get(), backend.activation_dtype());
  return {keys, keys + array.bytes() / 2 / dtype_bytes(keys.dtype)};
}

std::unique_ptr<AttentionPlan> Trainer::State::plan_attention(const PrefixForest& forest) {
  return backend.plan_attention(model.attention, forest.slices.data(), static_cast<int64_t>(forest.slices.size()));
}

RowBatch Trainer::State::upload_rows(const PrefixForest& forest, const AttentionPlan& attention) {
  const int64_t rows = forest.num_rows();
  const int64_t longest = rows == 0 ? 0 : *std::max_element(forest.positions.begin(), forest.positions.end()) + 1;
  model.reserve_positions(longest);
  reserve_blocks(forest.num_blocks);
  backend.upload(index_array(0), forest.token_ids.data(), rows * static_cast<int64_t>(sizeof(int32_t)));
  backend.upload(index_array(1), forest.positions.data(), rows * static_cast<int64_t>(sizeof(int32_t)));
  return {rows, index_array(0), index_array(1), attention};
}

void Trainer::State::upload_targets(const TargetPlan& plan) {
  const std::vector<int32_t>* const lists[] = {&plan.logit_rows, &plan.chunk_rows, &plan.token_ids};
  for (int64_t i = 0; i < 3; ++i) {
    backend.upload(index_array(2 + i), lists[i]->data(), static_cast<int64_t>(lists[i]->size() * sizeof(int32_t)));
  }
}

LayerActivations Trainer::State::activations_of(int64_t layer) {
  const BackwardWorkspace& work = training().work;
  LayerActivations activations = work.activations[options.recompute == Recompute::kFull ? 0 : layer];
  activations.layer_input = work.layer_inputs[layer];
  return activations;
}

TypedPointer Trainer::State::score_layers(const RowBatch& rows) {
  backend.embedding_forward(forward.x, model.matrix(model.table.embedding), rows.token_ids, rows.num_rows);
  const LayerActivations activations{forward.x, forward.qkv, forward.attention_output, nullptr, forward.x, {}};
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    layer_forward(model, layer, activations, forward_scratch(forward), forward.x, blocks_in(kv), rows);
  }
  return forward.x;
}

TypedPointer Trainer::State::forward_layers(const RowBatch& rows) {
  const BackwardWorkspace& work = training().work;
  backend.embedding_forward(forward.x, model.matrix(model.table.embedding), rows.token_ids, rows.num_rows);
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    layer_forward(model, layer, activations_of(layer), training_scratch(forward, work), work.layer_inputs[layer + 1],
                  blocks_in(kv), rows);
  }
  return work.layer_inputs[model.config.num_layers];
}

void Trainer::State::backward_layers(const RowBatch& rows) {
  const BackwardWorkspace& work = training().work;
  const LayerScratch scratch = training_scratch(forward, work);
  const KvBlocks cache = blocks_in(kv);
  for (int64_t layer = model.config.num_layers - 1; layer >= 0; --layer) {
    const LayerActivations activations = activations_of(layer);
    // The last layer's activations are still there.
    if (options.recompute == Recompute::kFull && layer + 1 < model.config.num_layers) {
      layer_forward(model, layer, activations, scratch, {}, cache, rows);
    }
    layer_backward(model, layer, activations, scratch, work.dx, gradients(), cache, blocks_in(training().dkv), rows);
  }
  backend.embedding_backward(gradients() + model.table.tensors[model.table.embedding].gradient_offset, work.dx,
                             rows.token_ids, rows.num_rows, model.config.hidden_size);
}

Targets Trainer::State::chunk_targets(const TargetPlan::Chunk& chunk) {
  return {chunk.num_targets, index_array(3) + chunk.first_target, index_array(4) + chunk.first_target};
}

void Trainer::State::chunk_logprobs(const TargetPlan::Chunk& chunk, ConstTypedPointer x, float temperature) {
  lm_head_logits(model, forward.logits, forward.gathered, forward.final_normed, x, index_array(2) + chunk.first_row,
                 chunk.num_rows);
  backend.logprob_forward(forward.logprobs + chunk.first_target, forward.row_max, forward.row_log_sum,
                          forward.row_entropy + chunk.first_row, forward.logits, chunk_targets(chunk), chunk.num_rows,
                          model.config.vocab_size, temperature);
}

Trainer::Trainer(Model& model, const TrainerOptions& options)
    : state_(std::make_unique<State>(model.state(), options)) {}
Trainer::~Trainer() = default;

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
  const int64_t num_fp32 = state.weight_dtype == DType::kFloat32 ? 2 : 3;  // moments, and the master of bf16 weights
  return arena.used() + indices + more_positions + state.backend.reserved_bytes(pass_limits(state, options, true)) +
         2 * kv_layer_bytes(state, planned_kv_blocks(options)) +
         state.table.num_flat_elements * (num_fp32 * kFloat + dtype_bytes(options.gradient_dtype));
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
  const BackwardWorkspace& work = state.training().work;
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

void Trainer::State::update_tensor(int64_t index, const AdamWStep& step) {
  const StoredTensor& tensor = model.table.tensors[index];
  const AdamWState all{model.master.get(), gradients(), training().first_moment.get(), training().second_moment.get()};
  const AdamWState state = all + tensor.gradient_offset;
  if (tensor.is_matrix) {
    backend.adamw_matrix(*model.matrices[index], state, step);
  } else {
    backend.adamw_vector(model.vector(index), model.weight_dtype, tensor.rows, state, step);
  }
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

TypedPointer Trainer::State::flat(TensorKind kind) {
  switch (kind) {
    case TensorKind::kGradient:
      return gradients();
    case TensorKind::kFirstMoment:
      return training().first_moment.get();
    case TensorKind::kSecondMoment:
      return training().second_moment.get();
    case TensorKind::kWeight:
      break;
  }
  return {};
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
