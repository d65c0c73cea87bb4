// What forward and backward passes over packed batches keep in device memory, and how large it is.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.h"
#include "model/state.h"
#include "train/trainer.h"

namespace wideseek {

// For scoring alone: the activations of one layer, and one chunk of LM-head rows.
struct ForwardWorkspace {
  TypedPointer x;                            // [T,C]
  TypedPointer qkv, attention_output;        // [T,...] of the layer that runs
  TypedPointer normed, activation, gate_up;  // a chunk of layer rows
  ExpertScratch experts;
  float* logits;
  TypedPointer gathered, final_normed;
  float *row_max, *row_log_sum;
  float* row_entropy;  // of the whole batch's logit rows
  float* logprobs;     // per target of the whole batch
};

// What training needs beside it.
struct BackwardWorkspace {
  std::vector<TypedPointer> layer_inputs;     // L+1 of [T,C]; 0 is ForwardWorkspace::x, L the input of the final norm
  std::vector<LayerActivations> activations;  // L, or one for all layers when they are run again
  TypedPointer qkv_rotated, dqkv, dattention, dx;  // [T,...]
  TypedPointer dlogits;                            // logits themselves if activations are fp32
  TypedPointer dgathered;
  float *dlogprobs, *weights, *advantages, *behavior_logprobs, *ref_logprobs;  // per target
  LossStats* stats;
};

ForwardWorkspace plan_forward(Arena& arena, const Model::State& model, const TrainerOptions& options);
BackwardWorkspace plan_backward(Arena& arena, const Model::State& model, const TrainerOptions& options,
                                const ForwardWorkspace& forward);

// Scratch of a layer for a forward pass that keeps nothing, and for training.
LayerScratch forward_scratch(const ForwardWorkspace& forward);
LayerScratch training_scratch(const ForwardWorkspace& forward, const BackwardWorkspace& backward);

// The largest pass of these options.
PassLimits pass_limits(const Model::State& model, const TrainerOptions& options, bool backward);
// KV blocks that hold a batch of max_tokens unless it has very many short sequences.
int64_t planned_kv_blocks(const TrainerOptions& options);
// Bytes of keys and values of one layer in `blocks` blocks.
int64_t kv_layer_bytes(const Model::State& model, int64_t blocks);

}  // namespace wideseek
