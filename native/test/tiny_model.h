// Small random models and batches for the model and trainer tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "backend.h"
#include "base/rng.h"
#include "model/model.h"
#include "train/trainer.h"

namespace tiny {

using namespace wideseek;

inline ModelConfig qwen3(bool tied) {
  return {.vocab_size = 19,
          .hidden_size = 12,
          .intermediate_size = 20,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 6,
          .max_position_embeddings = 512,
          .rms_norm_eps = 1e-6,
          .rope_theta = 10000,
          .yarn = std::nullopt,
          .tie_word_embeddings = tied,
          .qkv_bias = false,
          .qk_norm = true};
}

inline ModelConfig qwen2() {
  ModelConfig config = qwen3(false);
  config.qkv_bias = true;
  config.qk_norm = false;
  return config;
}

// Sizes that are not multiples of a vector, a panel or a block.
inline ModelConfig odd_sizes() {
  ModelConfig config = qwen3(true);
  config.vocab_size = 301;
  config.hidden_size = 72;
  config.intermediate_size = 150;
  config.num_layers = 3;
  config.head_dim = 20;
  return config;
}

// Experts in all layers but the second.
inline ModelConfig qwen3_moe() {
  ModelConfig config = odd_sizes();
  config.tie_word_embeddings = false;
  config.moe = MoeConfig{7, 3, 22, true, {true, false, true}};
  return config;
}

struct Instance {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
};

// Weights of a scale that gives probabilities far from uniform; norms around 1 and biases random.
inline Instance make_model_on(std::unique_ptr<Backend> backend, const ModelConfig& config, uint64_t seed, DType dtype,
                              double std = 0.25) {
  Instance made{std::move(backend), nullptr};
  made.model = std::make_unique<Model>(*made.backend, config, dtype);
  made.model->initialize(seed, std);
  for (size_t i = 0; i < made.model->parameters().size(); ++i) {
    const Parameter& parameter = made.model->parameters()[i];
    if (parameter.decayed) continue;
    std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
    const double center = parameter.name.ends_with(".bias") ? 0.0 : 1.0;
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = static_cast<float>(center + 0.2 * philox_normal(seed + 1, i, k));
    }
    made.model->write_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
  }
  return made;
}

inline Instance make_model(const ModelConfig& config, uint64_t seed, int num_threads = 1,
                           DType dtype = DType::kFloat32) {
  return make_model_on(create_backend("cpu", num_threads), config, seed, dtype);
}

// A small deterministic stream of integers.
class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  // In [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(philox_block(seed_, 0, next_++)[0] % static_cast<uint64_t>(high - low + 1));
  }
  double normal() { return philox_normal(seed_, 1, next_++); }

 private:
  uint64_t seed_;
  uint64_t next_ = 0;
};

struct Batch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> cu_seqlens{0};
  std::vector<float> loss_weights, advantages, behavior_logprobs, ref_logprobs;

  PackedBatch view() const {
    return {static_cast<int64_t>(token_ids.size()),
            static_cast<int64_t>(cu_seqlens.size()) - 1,
            token_ids.data(),
            cu_seqlens.data(),
            loss_weights.data(),
            advantages.data(),
            behavior_logprobs.data(),
            ref_logprobs.data()};
  }
  int64_t length(int64_t s) const { return cu_seqlens[s + 1] - cu_seqlens[s]; }
  // Every token but the first is trained with some weight when `dense`, else about half.
  void add(const std::vector<int32_t>& tokens, Random& random, bool dense = true) {
    for (size_t t = 0; t < tokens.size(); ++t) {
      const bool trained = t > 0 && (dense || random.integer(0, 1) == 1);
      token_ids.push_back(tokens[t]);
      loss_weights.push_back(trained ? 0.2f + 0.1f * static_cast<float>(random.integer(0, 9)) : 0.0f);
      advantages.push_back(random.integer(0, 1) == 1 ? 0.7f : -1.3f);
      behavior_logprobs.push_back(-2.0f);
      ref_logprobs.push_back(-2.5f);
    }
    cu_seqlens.push_back(static_cast<int32_t>(token_ids.size()));
  }
};

inline std::vector<int32_t> random_tokens(Random& random, int64_t vocab_size, int64_t length) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>(random.integer(0, vocab_size - 1)));
  return tokens;
}

// Sequences that share prefixes with each other, as the turns and samples of agents do.
inline Batch branching_batch(uint64_t seed, int64_t vocab_size) {
  Random random(seed);
  Batch batch;
  std::vector<std::vector<int32_t>> sequences;
  for (int64_t s = 0; s < 7; ++s) {
    std::vector<int32_t> tokens;
    if (!sequences.empty() && s % 3 != 0) {
      const auto& parent = sequences[random.integer(0, static_cast<int64_t>(sequences.size()) - 1)];
      tokens.assign(parent.begin(), parent.begin() + random.integer(1, static_cast<int64_t>(parent.size())));
    }
    const std::vector<int32_t> more = random_tokens(random, vocab_size, random.integer(1, 40));
    tokens.insert(tokens.end(), more.begin(), more.end());
    sequences.push_back(tokens);
    batch.add(tokens, random, s % 2 == 0);
  }
  batch.add(sequences[1], random);                 // the same sequence twice
  batch.add(std::vector<int32_t>(40, 7), random);  // blocks that are equal but stand after different tokens
  batch.add(std::vector<int32_t>(54, 7), random);
  batch.add({3}, random);
  return batch;
}

inline LossSettings nll() { return {LossKind::kNll, 1.0f, 0, 0, 0, 0}; }
inline LossSettings grpo() { return {LossKind::kGrpo, 0.8f, 0.2f, 0.28f, 10.0f, 0.05f}; }

inline std::vector<float> read(Trainer& trainer, const Model& model, TensorKind kind, int64_t parameter) {
  std::vector<float> values(static_cast<size_t>(model.parameters()[parameter].num_elements()));
  trainer.read_tensor(kind, parameter, values.data());
  return values;
}

inline std::vector<float> read_all(Trainer& trainer, const Model& model, TensorKind kind) {
  std::vector<float> all;
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const std::vector<float> one = read(trainer, model, kind, static_cast<int64_t>(i));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// ||a - b|| / ||b||
inline double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

}  // namespace tiny
