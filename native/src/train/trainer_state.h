// What a trainer holds on the device, and the passes over layers. Knows neither losses nor batches of callers.
#pragma once

#include <cstdint>
#include <memory>

#include "base/arena.h"
#include "model/lm_head.h"
#include "model/state.h"
#include "train/prefix_forest.h"
#include "train/target_plan.h"
#include "train/trainer.h"
#include "train/workspace.h"

namespace wideseek {

// Positions that a batch may use.
int64_t num_positions(const ModelConfig& config, const TrainerOptions& options);

// The memory of training, taken by the first operation that needs it: a frozen reference only scores.
struct Training {
  int64_t pass_bytes;
  DeviceArray<std::byte> own_arena;                // of the pass, if no memory is lent
  BackwardWorkspace work;                          // of the pass that runs
  DeviceArray<std::byte> dkv;                      // gradients of keys and values of one layer
  DeviceArray<std::byte> gradients;                // of all weights, flat, see ParameterTable
  DeviceArray<float> first_moment, second_moment;  // flat
};

struct Trainer::State {
  State(Model::State& model, const TrainerOptions& options, LendMemory lend);

  Model::State& model;
  Backend& backend;
  TrainerOptions options;
  LendMemory lend;
  DeviceArray<std::byte> arena;
  ForwardWorkspace forward;
  DeviceArray<int32_t> indices;  // [5, max_tokens]: token ids, positions, logit rows, target rows, target token ids
  DeviceArray<std::byte> kv;     // keys and values of one layer
  int64_t kv_blocks = 0;
  std::unique_ptr<Training> maybe_training;
  int64_t num_steps = 0;

  Training& training();
  // Lays out the memory of a pass.
  const BackwardWorkspace& begin_pass();
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

}  // namespace wideseek
