// What a Model holds, and the layer functions that inference and training share.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend.h"
#include "model/model.h"
#include "model/parameters.h"

namespace wideseek {

struct KvCache::Layer {
  KvBlocks blocks;
};

// Device arrays of one layer's forward pass over T rows. Inference passes the same array for layer_input, residual and
// layer_output, and for qkv and qkv_rotated; training keeps what the backward pass reads.
struct LayerActivations {
  TypedPointer layer_input;       // [T,C]
  TypedPointer qkv;               // [T,qkv_size] before norm and rotation
  TypedPointer attention_output;  // [T,H*D]
  float* lse;                     // [T,H] or null
  TypedPointer residual;          // [T,C] after attention
  TypedPointer gate_up;           // [T,2F], or null: computed again, some rows at a time
};

// Scratch of a layer with experts; null in a model without. The rows of a token are one for each of its k experts.
struct ExpertScratch {
  float* router_logits;  // [R,E]
  TypedPointer rows;     // [R*k,C] sorted by expert: what goes into the experts, then what comes out
  int32_t* row_tokens;   // [R*k]
  int32_t* token_rows;   // [R,k]
  float* shares;         // [R,k]
};

// Scratch of one layer, forward or backward; nothing in it outlives the call. R = min(T, ChunkSizes::layer_rows).
struct LayerScratch {
  TypedPointer normed;       // [R,C]
  TypedPointer activation;   // [R,F], or of the experts' rows if that is more
  TypedPointer gate_up;      // twice that; not used where the layer's gate_up is kept
  TypedPointer qkv_rotated;  // [T,qkv_size]; may be the layer's qkv when that is not kept
  TypedPointer dqkv;         // [T,qkv_size], backward only
  TypedPointer dattention;   // [T,H*D], backward only
  ExpertScratch experts = {};
};

// The rows of one packed pass.
struct RowBatch {
  int64_t num_rows;
  const int32_t* token_ids;  // device [T]
  const int32_t* positions;  // device [T]
  const AttentionPlan& attention;
};

struct Model::State {
  State(Backend& backend, const ModelConfig& config, DType weight_dtype);

  Backend& backend;
  ModelConfig config;
  DType weight_dtype;
  ParameterTable table;
  AttentionShape attention;
  std::vector<std::unique_ptr<Weight>> matrices;  // per stored tensor, null for vectors
  std::vector<DeviceArray<float>> vectors;        // per stored tensor, empty for matrices
  // fp32 master copy in the flat gradient order; only when a Trainer updates bf16 weights.
  DeviceArray<float> master;

  // Rows on their way from or to the host. Kept: a full device must not keep a checkpoint from being written.
  DeviceArray<float> transfer;

  DeviceArray<float> rope_cos, rope_sin;  // [num_positions, D/2]
  int64_t num_positions = 0;

  // Inference workspace, for max_rows.
  int64_t max_rows = 0;
  int64_t max_context = 0;
  DeviceArray<std::byte> workspace;
  DeviceArray<int32_t> row_indices;  // [3, max_rows]: token ids, positions, logit rows

  const Weight& matrix(int64_t tensor) const { return *matrices[tensor]; }
  // Null for index -1.
  float* vector(int64_t tensor) const { return tensor < 0 ? nullptr : vectors[tensor].get(); }
  float eps() const { return static_cast<float>(config.rms_norm_eps); }

  // Extends the cosine and sine tables to `count` positions; kInvalidArgument beyond max_position_embeddings.
  void reserve_positions(int64_t count);
  // Rows of a stored tensor, row-major device fp32. Storing rounds to weight_dtype; the master copy is not touched.
  void load_rows(int64_t tensor, int64_t first_row, int64_t num_rows, float* out) const;
  void store_rows(int64_t tensor, int64_t first_row, int64_t num_rows, const float* source);
  // The same for parameter `index` as a whole, host fp32; the master copy, if any, is read or updated too.
  void read_fp32(int64_t index, float* out) const;
  void write_fp32(int64_t index, const float* source);
  // Creates the master copy from the weights, once, for bf16 weights.
  void ensure_master();
};

// x += attention(x); x += mlp(x). layer_output may be null: then only what the backward pass reads is computed.
void layer_forward(Model::State& model, int64_t layer, const LayerActivations& activations, const LayerScratch& scratch,
                   TypedPointer layer_output, const KvBlocks& cache, const RowBatch& batch);

// dx [T,C] in place: gradient of the layer's output, then of its input. `gradients` is the flat array, accumulated.
// gate_up is overwritten. cache and dcache are scratch of one layer.
void layer_backward(Model::State& model, int64_t layer, const LayerActivations& activations,
                    const LayerScratch& scratch, TypedPointer dx, TypedPointer gradients, const KvBlocks& cache,
                    const KvBlocks& dcache, const RowBatch& batch);

}  // namespace wideseek
