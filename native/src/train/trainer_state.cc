#include "train/trainer_state.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace wideseek {
namespace {

constexpr int64_t kFloat = sizeof(float);

}  // namespace

int64_t num_positions(const ModelConfig& config, const TrainerOptions& options) {
  return std::min(options.max_tokens, config.max_position_embeddings);
}

Trainer::State::State(Model::State& model, const TrainerOptions& options, LendMemory lend)
    : model(model), backend(model.backend), options(options), lend(std::move(lend)) {
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
  taken->pass_bytes = size.used();
  if (!lend) taken->own_arena = DeviceArray<std::byte>(backend, size.used());
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

const BackwardWorkspace& Trainer::State::begin_pass() {
  Training& taken = training();
  Arena parts(lend ? lend(taken.pass_bytes) : taken.own_arena.get());
  taken.work = plan_backward(parts, model, options, forward);
  return taken.work;
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

}  // namespace wideseek
