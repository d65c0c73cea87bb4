// Weights of a model: allocation, access by parameter, initialisation; and the inference forward pass.
#include "model/model.h"

#include <algorithm>
#include <string>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
#include "model/experts.h"
#include "model/lm_head.h"
#include "model/rope_table.h"
#include "model/state.h"

namespace wideseek {
namespace {

// Rows moved at a time when a parameter is converted, so that no second full copy exists.
constexpr int64_t kTransferElements = int64_t{1} << 20;

int64_t rows_per_transfer(int64_t cols) { return std::max<int64_t>(1, kTransferElements / cols); }

int64_t checked_index(int64_t index, const ParameterTable& table) {
  const auto count = static_cast<int64_t>(table.parameters.size());
  WS_CHECK(index >= 0 && index < count, kInvalidArgument, "Model",
           "parameter: got index " + std::to_string(index) + ", the model has " + std::to_string(count));
  return index;
}

int64_t kv_layer_elements_per_block(const ModelConfig& config) {
  return KvCache::kBlockTokens * config.num_kv_heads * config.head_dim;
}

struct InferenceWorkspace {
  TypedPointer x, qkv, attention_output;     // max_rows rows
  TypedPointer normed, activation, gate_up;  // a chunk of them
  ExpertScratch experts;
  TypedPointer gathered;  // a chunk of LM-head rows
  float* logits;
};

InferenceWorkspace plan_inference(Arena& arena, const Model::State& model, int64_t max_rows) {
  const ModelConfig& config = model.config;
  const DType dtype = model.backend.activation_dtype();
  const int64_t layer_rows = std::min(max_rows, model.backend.chunk_sizes().layer_rows);
  const int64_t logit_rows = std::min(max_rows, lm_head_chunk_rows(model));
  InferenceWorkspace work{};
  work.x = arena.take(max_rows * config.hidden_size, dtype);
  work.qkv = arena.take(max_rows * model.attention.qkv_size(), dtype);
  work.attention_output = arena.take(max_rows * config.num_heads * config.head_dim, dtype);
  work.normed = arena.take(layer_rows * config.hidden_size, dtype);
  work.activation = arena.take(activation_elements(config, layer_rows), dtype);
  work.gate_up = arena.take(2 * activation_elements(config, layer_rows), dtype);
  work.experts = plan_experts(arena, model, layer_rows);
  work.gathered = arena.take(logit_rows * config.hidden_size, dtype);
  work.logits = arena.take_floats(logit_rows * config.vocab_size);
  return work;
}

}  // namespace

// ---- KvCache

struct KvCache::State {
  int64_t num_blocks;
  std::vector<DeviceArray<std::byte>> arrays;  // keys and values of each layer
  std::vector<Layer> layers;
};

KvCache::KvCache(Backend& backend, const ModelConfig& config, int64_t num_blocks) : state_(std::make_unique<State>()) {
  WS_CHECK(num_blocks > 0, kInvalidArgument, "KvCache",
           "num_blocks: got " + std::to_string(num_blocks) + ", must be at least 1");
  state_->num_blocks = num_blocks;
  const DType dtype = backend.activation_dtype();
  const int64_t bytes = num_blocks * kv_layer_elements_per_block(config) * dtype_bytes(dtype);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    KvBlocks blocks{};
    for (TypedPointer* half : {&blocks.keys, &blocks.values}) {
      state_->arrays.emplace_back(backend, bytes);
      *half = {state_->arrays.back().get(), dtype};
    }
    state_->layers.push_back({blocks});
  }
}

KvCache::~KvCache() = default;

int64_t KvCache::num_blocks() const { return state_->num_blocks; }

int64_t KvCache::num_bytes() const {
  return static_cast<int64_t>(state_->arrays.size()) * state_->arrays.front().bytes();
}

KvCache::Layer& KvCache::layer(int64_t index) { return state_->layers[index]; }

// ---- Model::State

Model::State::State(Backend& backend, const ModelConfig& config, DType weight_dtype)
    : backend(backend),
      config(config),
      weight_dtype(weight_dtype),
      table(make_parameter_table(config)),
      attention{config.num_heads, config.num_kv_heads, config.head_dim} {
  backend.check_shape(attention, config.hidden_size);
  int64_t largest_transfer = 0;
  for (const StoredTensor& tensor : table.tensors) {
    largest_transfer = std::max(largest_transfer, std::min(rows_per_transfer(tensor.cols), tensor.rows) * tensor.cols);
    matrices.push_back(tensor.is_matrix ? backend.create_weight(tensor.rows, tensor.cols, weight_dtype) : nullptr);
    vectors.push_back(tensor.is_matrix ? DeviceArray<float>() : DeviceArray<float>(backend, tensor.rows));
  }
  transfer = DeviceArray<float>(backend, largest_transfer);
}

void Model::State::reserve_positions(int64_t count) {
  WS_CHECK(count <= config.max_position_embeddings, kInvalidArgument, "Model",
           "context: got " + std::to_string(count) + " tokens, limit is max_position_embeddings " +
               std::to_string(config.max_position_embeddings));
  if (count <= num_positions) return;
  const int64_t elements = count * config.head_dim / 2;
  std::vector<float> cos(static_cast<size_t>(elements));
  std::vector<float> sin(static_cast<size_t>(elements));
  fill_rope_table(config, count, cos.data(), sin.data());
  rope_cos = DeviceArray<float>(backend, elements);
  rope_sin = DeviceArray<float>(backend, elements);
  backend.upload(rope_cos.get(), cos.data(), rope_cos.bytes());
  backend.upload(rope_sin.get(), sin.data(), rope_sin.bytes());
  num_positions = count;
}

void Model::State::load_rows(int64_t tensor, int64_t first_row, int64_t num_rows, float* out) const {
  if (matrices[tensor]) {
    backend.load_weight(*matrices[tensor], first_row, num_rows, out);
  } else {
    backend.copy(out, vectors[tensor].get() + first_row, num_rows * static_cast<int64_t>(sizeof(float)));
  }
}

void Model::State::store_rows(int64_t tensor, int64_t first_row, int64_t num_rows, const float* source) {
  if (matrices[tensor]) {
    backend.store_weight(*matrices[tensor], first_row, num_rows, source);
  } else {
    backend.store_vector(vectors[tensor].get() + first_row, source, num_rows, weight_dtype);
  }
}

void Model::State::read_fp32(int64_t index, float* out) const {
  const ParameterPlacement& placement = table.placements[index];
  const StoredTensor& tensor = table.tensors[placement.tensor];
  const int64_t num_rows = table.parameters[index].shape[0];
  if (master.count() > 0) {
    backend.download(out, master.get() + tensor.gradient_offset + placement.first_row * tensor.cols,
                     num_rows * tensor.cols * static_cast<int64_t>(sizeof(float)));
    return;
  }
  const int64_t step = rows_per_transfer(tensor.cols);
  for (int64_t row = 0; row < num_rows; row += step) {
    const int64_t count = std::min(step, num_rows - row);
    load_rows(placement.tensor, placement.first_row + row, count, transfer.get());
    backend.download(out + row * tensor.cols, transfer.get(),
                     count * tensor.cols * static_cast<int64_t>(sizeof(float)));
  }
}

void Model::State::write_fp32(int64_t index, const float* source) {
  const ParameterPlacement& placement = table.placements[index];
  const StoredTensor& tensor = table.tensors[placement.tensor];
  const int64_t num_rows = table.parameters[index].shape[0];
  const int64_t step = rows_per_transfer(tensor.cols);
  for (int64_t row = 0; row < num_rows; row += step) {
    const int64_t count = std::min(step, num_rows - row);
    const int64_t bytes = count * tensor.cols * static_cast<int64_t>(sizeof(float));
    backend.upload(transfer.get(), source + row * tensor.cols, bytes);
    store_rows(placement.tensor, placement.first_row + row, count, transfer.get());
    if (master.count() > 0) {
      backend.copy(master.get() + tensor.gradient_offset + (placement.first_row + row) * tensor.cols, transfer.get(),
                   bytes);
    }
  }
}

void Model::State::ensure_master() {
  if (weight_dtype == DType::kFloat32 || master.count() > 0) return;
  master = DeviceArray<float>::optimizer_state(backend, table.num_flat_elements);
  backend.zero(master.get(), master.bytes());
  for (size_t tensor = 0; tensor < table.tensors.size(); ++tensor) {
    const StoredTensor& stored = table.tensors[tensor];
    load_rows(static_cast<int64_t>(tensor), 0, stored.rows, master.get() + stored.gradient_offset);
  }
}

// ---- Model

Model::Model(Backend& backend, const ModelConfig& config, DType weight_dtype) {
  validate(config);
  WS_CHECK(weight_dtype != DType::kFloat16, kUnsupported, "Model",
           "weight dtype: got float16; weights are kept as float32 or bfloat16 (float16 files can be read)");
  state_ = std::make_unique<State>(backend, config, weight_dtype);
}

Model::~Model() = default;

const ModelConfig& Model::config() const { return state_->config; }
const std::vector<Parameter>& Model::parameters() const { return state_->table.parameters; }
Model::State& Model::state() { return *state_; }

void Model::write_parameter(int64_t index, const void* data, DType dtype) {
  const int64_t count = state_->table.parameters[checked_index(index, state_->table)].num_elements();
  if (dtype == DType::kFloat32) {
    state_->write_fp32(index, static_cast<const float*>(data));
    return;
  }
  std::vector<float> wide(static_cast<size_t>(count));
  convert_to_float(data, dtype, wide.data(), count);
  state_->write_fp32(index, wide.data());
}

void Model::read_parameter(int64_t index, void* data, DType dtype) const {
  const int64_t count = state_->table.parameters[checked_index(index, state_->table)].num_elements();
  if (dtype == DType::kFloat32) {
    state_->read_fp32(index, static_cast<float*>(data));
    return;
  }
  std::vector<float> wide(static_cast<size_t>(count));
  state_->read_fp32(index, wide.data());
  convert_from_float(wide.data(), data, dtype, count);
}

void Model::initialize(uint64_t seed, double std) {
  for (size_t index = 0; index < state_->table.parameters.size(); ++index) {
    const Parameter& parameter = state_->table.parameters[index];
    std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
    if (parameter.decayed) {
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(std * philox_normal(seed, index, i));
      }
    } else {
      std::fill(values.begin(), values.end(), parameter.name.ends_with(".bias") ? 0.0f : 1.0f);
    }
    state_->write_fp32(static_cast<int64_t>(index), values.data());
  }
}

void Model::reserve_inference(int64_t max_rows, int64_t max_context) {
  State& state = *state_;
  WS_CHECK(max_rows > 0 && max_context > 0, kInvalidArgument, "Model::reserve_inference",
           "max_rows and max_context: got " + std::to_string(max_rows) + " and " + std::to_string(max_context) +
               ", must be at least 1");
  state.reserve_positions(max_context);
  state.max_context = std::max(state.max_context, max_context);
  if (max_rows <= state.max_rows) return;
  state.max_rows = 0;
  state.workspace = DeviceArray<std::byte>();
  Arena size(nullptr);
  plan_inference(size, state, max_rows);
  state.workspace = DeviceArray<std::byte>(state.backend, size.used());
  state.row_indices = DeviceArray<int32_t>(state.backend, 3 * max_rows);
  state.max_rows = max_rows;
}

void Model::forward(const InferenceBatch& batch, KvCache& cache, const UseLogits& use) {
  State& state = *state_;
  Backend& backend = state.backend;
  const ModelConfig& config = state.config;
  constexpr const char* kOp = "Model::forward";
  const int64_t rows = batch.num_rows;
  WS_CHECK(rows <= state.max_rows && batch.num_logit_rows <= state.max_rows, kInvalidArgument, kOp,
           "rows and logit rows: got " + std::to_string(rows) + " and " + std::to_string(batch.num_logit_rows) +
               ", limit is the reserved " + std::to_string(state.max_rows));
  if (rows == 0) return;
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    const SequenceSlice& slice = batch.sequences[s];
    const int64_t context = slice.first_position + slice.num_rows;
    WS_CHECK(context <= state.max_context, kInvalidArgument, kOp,
             "context: got " + std::to_string(context) + " tokens, limit is the reserved " +
                 std::to_string(state.max_context));
    for (int64_t i = 0; i < slice.num_rows; ++i) {
      positions[slice.first_row + i] = static_cast<int32_t>(slice.first_position + i);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t token = batch.token_ids[row];
    WS_CHECK(token >= 0 && token < config.vocab_size, kInvalidArgument, kOp,
             "token id at row " + std::to_string(row) + ": got " + std::to_string(token) + ", vocab_size is " +
                 std::to_string(config.vocab_size));
  }

  Arena arena(state.workspace.get());
  const InferenceWorkspace work = plan_inference(arena, state, state.max_rows);
  int32_t* token_ids = state.row_indices.get();
  int32_t* device_positions = token_ids + state.max_rows;
  int32_t* logit_rows = device_positions + state.max_rows;
  backend.upload(token_ids, batch.token_ids, rows * static_cast<int64_t>(sizeof(int32_t)));
  backend.upload(device_positions, positions.data(), rows * static_cast<int64_t>(sizeof(int32_t)));
  backend.upload(logit_rows, batch.logit_rows, batch.num_logit_rows * static_cast<int64_t>(sizeof(int32_t)));

  const auto attention = backend.plan_attention(state.attention, batch.sequences, batch.num_sequences);
  const RowBatch row_batch{rows, token_ids, device_positions, *attention};
  const LayerActivations activations{work.x, work.qkv, work.attention_output, nullptr, work.x, {}};
  const LayerScratch scratch{work.normed, work.activation, work.gate_up, work.qkv, {}, {}, work.experts};
  backend.embedding_forward(work.x, state.matrix(state.table.embedding), token_ids, rows);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    layer_forward(state, layer, activations, scratch, work.x, cache.layer(layer).blocks, row_batch);
  }

  const int64_t chunk_rows = lm_head_chunk_rows(state);
  for (int64_t first = 0; first < batch.num_logit_rows; first += chunk_rows) {
    const int64_t count = std::min(chunk_rows, batch.num_logit_rows - first);
    // The gathered rows are normed in place.
    lm_head_logits(state, work.logits, work.gathered, work.gathered, work.x, logit_rows + first, count);
    use(first, count, work.logits);
  }
}

}  // namespace wideseek
