// Weights of a model: allocation, access by parameter, initialisation; and the cache of keys and values.
#include "model/model.h"

#include <algorithm>
#include <string>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
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

}  // namespace

// ---- KvCache

struct KvCache::State {
  State(Backend& backend, const ModelConfig& config, int64_t num_blocks);

  Backend& backend;
  const ModelConfig& config;
  int64_t num_blocks;
  DeviceArray<std::byte> memory;
  std::vector<Layer> layers;

  // Lays all layers out; returns their size.
  int64_t place(std::byte* base);
};

KvCache::State::State(Backend& backend_, const ModelConfig& config_, int64_t num_blocks_)
    : backend(backend_), config(config_), num_blocks(num_blocks_), layers(static_cast<size_t>(config.num_layers)) {
  memory = DeviceArray<std::byte>(backend, place(nullptr));
  place(memory.get());
}

int64_t KvCache::State::place(std::byte* base) {
  Arena arena(base);
  const int64_t elements = num_blocks * kv_layer_elements_per_block(config);
  for (Layer& layer : layers) {
    layer.blocks.keys = arena.take(elements, backend.activation_dtype());
    layer.blocks.values = arena.take(elements, backend.activation_dtype());
  }
  return arena.used();
}

KvCache::KvCache(Backend& backend, const ModelConfig& config, int64_t num_blocks) {
  WS_CHECK(num_blocks > 0, kInvalidArgument, "KvCache",
           "num_blocks: got " + std::to_string(num_blocks) + ", must be at least 1");
  state_ = std::make_unique<State>(backend, config, num_blocks);
}

KvCache::~KvCache() = default;

int64_t KvCache::num_blocks() const { return state_->num_blocks; }

int64_t KvCache::num_bytes() const { return state_->memory.bytes(); }

std::byte* KvCache::lend(int64_t bytes) {
  State& state = *state_;
  const int64_t before = state.memory.bytes();
  if (bytes <= before) return state.memory.get();
  // Given back first: there need not be room for both.
  state.memory = DeviceArray<std::byte>();
  try {
    state.memory = DeviceArray<std::byte>(state.backend, bytes);
  } catch (...) {
    state.memory = DeviceArray<std::byte>(state.backend, before);
    state.place(state.memory.get());
    throw;
  }
  state.place(state.memory.get());
  return state.memory.get();
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
DType Model::activation_dtype() const { return state_->backend.activation_dtype(); }
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

}  // namespace wideseek
