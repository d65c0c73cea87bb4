// Models of the benchmarks: shapes by name, and random weights made on the device.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "model/state.h"

namespace bench {

using namespace wideseek;

inline ModelConfig config_of(const std::string& shape) {
  ModelConfig config{.vocab_size = 151936,
                     .hidden_size = 1024,
                     .intermediate_size = 3072,
                     .num_layers = 28,
                     .num_heads = 16,
                     .num_kv_heads = 8,
                     .head_dim = 128,
                     .max_position_embeddings = 40960,
                     .rms_norm_eps = 1e-6,
                     .rope_theta = 1e6,
                     .yarn = std::nullopt,
                     .tie_word_embeddings = true,
                     .qkv_bias = false,
                     .qk_norm = true};
  if (shape == "qwen3-4b") {
    config.hidden_size = 2560;
    config.intermediate_size = 9728;
    config.num_layers = 36;
    config.num_heads = 32;
  } else if (shape == "nano") {
    config.vocab_size = 512;
    config.hidden_size = 64;
    config.intermediate_size = 192;
    config.num_layers = 2;
    config.num_heads = 4;
    config.num_kv_heads = 2;
    config.head_dim = 64;
  } else if (shape == "bench-30m") {
    config.vocab_size = 8192;
    config.hidden_size = 384;
    config.intermediate_size = 1024;
    config.num_layers = 8;
    config.num_heads = 6;
    config.num_kv_heads = 2;
    config.head_dim = 64;
  } else {
    WS_CHECK(shape == "qwen3-0.6b", kInvalidArgument, "bench", "--shape: got \"" + shape + "\"");
  }
  return config;
}

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Values in (-scale, scale), where the device can read them.
inline std::vector<float> random_values(int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i += 4) {
    const std::array<uint32_t, 4> bits = philox_block(1, 0, static_cast<uint64_t>(i));
    for (int64_t j = i; j < std::min(count, i + 4); ++j) {
      values[j] = scale * static_cast<float>(static_cast<int32_t>(bits[j - i])) * 0x1p-31f;
    }
  }
  return values;
}

// From one random array on the device: billions of weights are not to be drawn on the host.
inline void fill_weights(Backend& backend, Model& model) {
  constexpr int64_t kCount = int64_t{1} << 24;
  constexpr float kScale = 0.0346f;  // standard deviation 0.02
  Model::State& state = model.state();
  DeviceArray<float> source(backend, kCount), ones(backend, kCount >> 4);
  const std::vector<float> values = random_values(kCount, kScale);
  backend.upload(source.get(), values.data(), source.bytes());
  const std::vector<float> ones_values(static_cast<size_t>(ones.count()), 1.0f);
  backend.upload(ones.get(), ones_values.data(), ones.bytes());
  for (size_t i = 0; i < state.table.tensors.size(); ++i) {
    const StoredTensor& tensor = state.table.tensors[i];
    const auto index = static_cast<int64_t>(i);
    if (!tensor.is_matrix) {
      state.store_rows(index, 0, tensor.rows, ones.get());
      continue;
    }
    const int64_t most = kCount / 2 / tensor.cols;  // from an offset of its own in the first half
    for (int64_t row = 0; row < tensor.rows; row += most) {
      const int64_t offset = (index * 4099 + row) * 64 % (kCount / 2);
      state.store_rows(index, row, std::min(most, tensor.rows - row), source.get() + offset);
    }
  }
}

}  // namespace bench
