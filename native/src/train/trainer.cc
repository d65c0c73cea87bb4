// The packed forward and backward pass, chunked over LM-head rows, and the optimizer step.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/error.h"
#include "model/lm_head.h"
#include "model/state.h"
#include "train/prefix_forest.h"
#include "train/target_plan.h"

namespace wideseek {
namespace {

constexpr int64_t kFloat = sizeof(float);

struct Workspace {
  std::vector<TypedPointer> layer_inputs;     // L+1 of [T,C]; entry L is the input of the final norm
  std::vector<LayerActivations> activations;  // L, or one shared by all layers when activations are recomputed
  LayerScratch scratch;
  TypedPointer dx;  // [T,C]
  // One chunk of LM-head rows. dlogits is logits if activations are fp32.
  float* logits;
  TypedPointer dlogits, gathered, normed, dgathered;
  float *row_max, *row_log_sum, *row_entropy;
  // Per target of the whole batch.
  float *logprobs, *dlogprobs, *weights, *advantages, *behavior_logprobs, *ref_logprobs;
};

Workspace plan_workspace(Arena& arena, const Model::State& model, const TrainerOptions& options) {
  const ModelConfig& config = model.config;
  const int64_t tokens = options.max_tokens;
  const int64_t hidden = config.hidden_size;
  const int64_t qkv_size = model.attention.qkv_size();
  const int64_t attention_size = config.num_heads * config.head_dim;
  const DType dtype = model.backend.activation_dtype();
  const int64_t layer_rows = std::min(tokens, model.backend.chunk_sizes().layer_rows);
  Workspace work{};
  for (int64_t layer = 0; layer <= config.num_layers; ++layer) {
    work.layer_inputs.push_back(arena.take(tokens * hidden, dtype));
  }
  const int64_t kept_layers = options.recompute_activations ? 1 : config.num_layers;
  for (int64_t layer = 0; layer < kept_layers; ++layer) {
    LayerActivations kept{};
    kept.qkv = arena.take(tokens * qkv_size, dtype);
    kept.attention_output = arena.take(tokens * attention_size, dtype);
    kept.lse = arena.take_floats(tokens * config.num_heads);
    kept.residual = arena.take(tokens * hidden, dtype);
    kept.gate_up = arena.take(tokens * 2 * config.intermediate_size, dtype);
    work.activations.push_back(kept);
  }
  work.scratch.normed = arena.take(layer_rows * hidden, dtype);
  work.scratch.activation = arena.take(layer_rows * config.intermediate_size, dtype);
  work.scratch.qkv_rotated = arena.take(tokens * qkv_size, dtype);
  work.scratch.dqkv = arena.take(tokens * qkv_size, dtype);
  work.scratch.dattention = arena.take(tokens * attention_size, dtype);
  work.dx = arena.take(tokens * hidden, dtype);
  const int64_t chunk_rows = lm_head_chunk_rows(model);
  work.logits = arena.take_floats(chunk_rows * config.vocab_size);
  const bool in_place = dtype == DType::kFloat32;
  work.dlogits = in_place ? TypedPointer(work.logits) : arena.take(chunk_rows * config.vocab_size, dtype);
  for (TypedPointer* part : {&work.gathered, &work.normed, &work.dgathered}) {
    *part = arena.take(chunk_rows * hidden, dtype);
  }
  for (float** part : {&work.row_max, &work.row_log_sum, &work.row_entropy}) *part = arena.take_floats(chunk_rows);
  for (float** part : {&work.logprobs, &work.dlogprobs, &work.weights, &work.advantages, &work.behavior_logprobs,
                       &work.ref_logprobs}) {
    *part = arena.take_floats(tokens);
  }
  return work;
}

}  // namespace

struct Trainer::State {
  State(Model::State& model, const TrainerOptions& options);

  Model::State& model;
  Backend& backend;
  TrainerOptions options;
  DeviceArray<std::byte> arena;
  Workspace work;
  DeviceArray<int32_t> indices;  // [5, max_tokens]: token ids, positions, logit rows, target rows, target token ids
  DeviceArray<std::byte> kv;     // keys, values and their gradients of one layer
  int64_t kv_blocks = 0;
  KvBlocks cache{}, dcache{};
  DeviceArray<float> gradients, first_moment, second_moment;  // flat, see ParameterTable
  int64_t num_steps = 0;

  int32_t* index_array(int64_t index) { return indices.get() + index * options.max_tokens; }
  void reserve_blocks(int64_t count);
  std::unique_ptr<AttentionPlan> plan_attention(const PrefixForest& forest);
  RowBatch upload_rows(const PrefixForest& forest, const AttentionPlan& attention);
  void upload_targets(const TargetPlan& plan);
  // Runs the layers, keeps activations for a backward pass if asked, and returns the input of the final norm.
  TypedPointer forward_layers(const RowBatch& rows, bool keep_activations);
  void backward_layers(const RowBatch& rows);
  LayerActivations activations_of(int64_t layer) const;
  Targets chunk_targets(const TargetPlan::Chunk& chunk);
  void chunk_logprobs(const TargetPlan::Chunk& chunk, ConstTypedPointer x, float temperature);
  void update_tensor(int64_t index, const AdamWStep& step);
  float* flat(TensorKind kind) const;
};

Trainer::State::State(Model::State& model, const TrainerOptions& options)
    : model(model), backend(model.backend), options(options) {
  WS_CHECK(options.max_tokens >= 1 && options.max_tokens <= (int64_t{1} << 28), kInvalidArgument, "Trainer",
           "max_tokens: got " + std::to_string(options.max_tokens) + ", must be in [1, 2^28]");
  Arena size(nullptr);
  plan_workspace(size, model, options);
  arena = DeviceArray<std::byte>(backend, size.used());
  Arena parts(arena.get());
  work = plan_workspace(parts, model, options);
  indices = DeviceArray<int32_t>(backend, 5 * options.max_tokens);
  reserve_blocks(options.max_tokens / kKvBlockTokens + options.max_tokens / 128 + 16);
  gradients = DeviceArray<float>(backend, model.table.num_flat_elements);
  for (DeviceArray<float>* moment : {&first_moment, &second_moment}) {
    *moment = DeviceArray<float>::optimizer_state(backend, model.table.num_flat_elements);
  }
  for (const DeviceArray<float>* array : {&gradients, &first_moment, &second_moment}) {
    backend.zero(array->get(), array->bytes());
  }
  model.ensure_master();
}

// Short sequences leave blocks partly empty, so their number has no useful bound by max_tokens: the four arrays grow.
void Trainer::State::reserve_blocks(int64_t count) {
  if (count <= kv_blocks) return;
  const DType dtype = backend.activation_dtype();
  const int64_t elements = count * kKvBlockTokens * model.config.num_kv_heads * model.config.head_dim;
  kv = DeviceArray<std::byte>();
  kv_blocks = 0;
  kv = DeviceArray<std::byte>(backend, 4 * elements * dtype_bytes(dtype));
  kv_blocks = count;
  const TypedPointer first(kv.get(), dtype);
  cache = {first, first + elements};
  dcache = {first + 2 * elements, first + 3 * elements};
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

LayerActivations Trainer::State::activations_of(int64_t layer) const {
  LayerActivations activations = work.activations[options.recompute_activations ? 0 : layer];
  activations.layer_input = work.layer_inputs[layer];
  return activations;
}

TypedPointer Trainer::State::forward_layers(const RowBatch& rows, bool keep_activations) {
  backend.embedding_forward(work.layer_inputs[0], model.matrix(model.table.embedding), rows.token_ids, rows.num_rows);
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    LayerActivations activations = activations_of(keep_activations ? layer : 0);
    if (!keep_activations) activations.residual = work.layer_inputs[0];
    layer_forward(model, layer, activations, work.scratch, work.layer_inputs[keep_activations ? layer + 1 : 0], cache,
                  rows);
  }
  return work.layer_inputs[keep_activations ? model.config.num_layers : 0];
}

void Trainer::State::backward_layers(const RowBatch& rows) {
  for (int64_t layer = model.config.num_layers - 1; layer >= 0; --layer) {
    const LayerActivations activations = activations_of(layer);
    // The last layer's activations are still there.
    if (options.recompute_activations && layer + 1 < model.config.num_layers) {
      layer_forward(model, layer, activations, work.scratch, {}, cache, rows);
    }
    layer_backward(model, layer, activations, work.scratch, work.dx, gradients.get(), cache, dcache, rows);
  }
  backend.embedding_backward(gradients.get() + model.table.tensors[model.table.embedding].gradient_offset, work.dx,
                             rows.token_ids, rows.num_rows, model.config.hidden_size);
}

Targets Trainer::State::chunk_targets(const TargetPlan::Chunk& chunk) {
  return {chunk.num_targets, index_array(3) + chunk.first_target, index_array(4) + chunk.first_target};
}

void Trainer::State::chunk_logprobs(const TargetPlan::Chunk& chunk, ConstTypedPointer x, float temperature) {
  lm_head_logits(model, work.logits, work.gathered, work.normed, x, index_array(2) + chunk.first_row, chunk.num_rows);
  backend.logprob_forward(work.logprobs + chunk.first_target, work.row_max, work.row_log_sum, work.row_entropy,
                          work.logits, chunk_targets(chunk), chunk.num_rows, model.config.vocab_size, temperature);
}

Trainer::Trainer(Model& model, const TrainerOptions& options)
    : state_(std::make_unique<State>(model.state(), options)) {}
Trainer::~Trainer() = default;

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
  const PrefixForest forest =
      build_prefix_forest(batch.token_ids, batch.cu_seqlens, lengths.data(), batch.num_sequences);
  if (forest.num_rows() == 0) return;
  const TargetPlan plan = plan_targets(batch, forest, is_target, lm_head_chunk_rows(state.model));
  const auto attention = state.plan_attention(forest);
  const RowBatch rows = state.upload_rows(forest, *attention);
  state.upload_targets(plan);
  const TypedPointer x = state.forward_layers(rows, false);

  std::vector<float> values(plan.tokens.size());
  std::vector<float> row_entropies(plan.logit_rows.size());
  for (const TargetPlan::Chunk& chunk : plan.chunks) {
    state.chunk_logprobs(chunk, x, temperature);
    state.backend.download(row_entropies.data() + chunk.first_row, state.work.row_entropy, chunk.num_rows * kFloat);
    for (int64_t k = chunk.first_target; k < chunk.first_target + chunk.num_targets; ++k) {
      entropies[plan.tokens[k]] = row_entropies[chunk.first_row + plan.chunk_rows[k]];
    }
  }
  state.backend.download(values.data(), state.work.logprobs, static_cast<int64_t>(values.size()) * kFloat);
  for (size_t k = 0; k < values.size(); ++k) logprobs[plan.tokens[k]] = values[k];
}

LossStats Trainer::forward_backward(const PackedBatch& batch, const LossSettings& loss, float* logprobs) {
  State& state = *state_;
  Workspace& work = state.work;
  const int64_t vocab_size = state.model.config.vocab_size;
  validate(batch, vocab_size, state.options.max_tokens);
  validate(batch, loss);
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
  const PrefixForest forest =
      build_prefix_forest(batch.token_ids, batch.cu_seqlens, lengths.data(), batch.num_sequences);
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

  const TypedPointer x = state.forward_layers(rows, true);
  state.backend.zero(work.dx.data, rows.num_rows * state.model.config.hidden_size * dtype_bytes(work.dx.dtype));
  for (const TargetPlan::Chunk& chunk : plan.chunks) {
    state.chunk_logprobs(chunk, x, loss.temperature);
    const int64_t first = chunk.first_target;
    const Targets targets = state.chunk_targets(chunk);
    state.backend.token_loss(work.dlogprobs + first, stats, work.logprobs + first, work.row_entropy, targets,
                             {from(inputs.weights, first), from(inputs.advantages, first),
                              from(inputs.behavior_logprobs, first), from(inputs.ref_logprobs, first)},
                             loss);
    state.backend.logprob_backward(work.dlogits, work.logits, work.dlogprobs + first, work.row_max, work.row_log_sum,
                                   targets, chunk.num_rows, vocab_size, loss.temperature);
    lm_head_backward(state.model, work.dx, state.gradients.get(), work.dlogits, work.gathered, work.normed,
                     work.dgathered, state.index_array(2) + chunk.first_row, chunk.num_rows);
  }
  state.backward_layers(rows);

  if (logprobs != nullptr) {
    state.backend.download(values.data(), work.logprobs, static_cast<int64_t>(values.size()) * kFloat);
    for (size_t k = 0; k < values.size(); ++k) logprobs[plan.tokens[k]] = values[k];
  }
  state.backend.synchronize();
  return stats;
}

void Trainer::zero_gradients() { state_->backend.zero(state_->gradients.get(), state_->gradients.bytes()); }

void Trainer::State::update_tensor(int64_t index, const AdamWStep& step) {
  const StoredTensor& tensor = model.table.tensors[index];
  const AdamWState all{model.master.get(), gradients.get(), first_moment.get(), second_moment.get()};
  const AdamWState state = all + tensor.gradient_offset;
  if (tensor.is_matrix) {
    backend.adamw_matrix(*model.matrices[index], state, step);
  } else {
    backend.adamw_vector(model.vector(index), model.weight_dtype, tensor.rows, state, step);
  }
}

OptimizerStepResult Trainer::optimizer_step(const OptimizerSettings& settings) {
  State& state = *state_;
  const double norm = std::sqrt(state.backend.sum_squares(state.gradients.get(), state.gradients.count()));
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

float* Trainer::State::flat(TensorKind kind) const {
  switch (kind) {
    case TensorKind::kGradient:
      return gradients.get();
    case TensorKind::kFirstMoment:
      return first_moment.get();
    case TensorKind::kSecondMoment:
      return second_moment.get();
    case TensorKind::kWeight:
      break;
  }
  return nullptr;
}

void Trainer::read_tensor(TensorKind kind, int64_t parameter, float* data) const {
  const float* flat = state_->flat(kind);
  if (flat == nullptr) {
    state_->model.read_fp32(parameter, data);
    return;
  }
  state_->backend.download(data, flat + state_->model.table.flat_offset(parameter),
                           state_->model.table.parameters[parameter].num_elements() * kFloat);
}

void Trainer::write_tensor(TensorKind kind, int64_t parameter, const float* data) {
  float* flat = state_->flat(kind);
  if (flat == nullptr) {
    state_->model.write_fp32(parameter, data);
    return;
  }
  state_->backend.upload(flat + state_->model.table.flat_offset(parameter), data,
                         state_->model.table.parameters[parameter].num_elements() * kFloat);
}

int64_t Trainer::num_steps() const { return state_->num_steps; }
void Trainer::set_num_steps(int64_t steps) { state_->num_steps = steps; }

}  // namespace wideseek
