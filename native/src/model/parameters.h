// The parameter table: every tensor of a model, its checkpoint name and where it lives.
// Products that share an input are stored as one matrix (q, k, v; gate, up), so a stored tensor holds one or more
// parameters one below the other; in the table they stay separate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model.h"

namespace wideseek {

// One tensor in memory: weights, gradient and moments all have this shape and order.
struct StoredTensor {
  int64_t rows;
  int64_t cols;             // 1 for vectors (norms, biases), which have `rows` elements
  bool is_matrix;           // matrices use the device's weight layout, vectors are plain fp32
  bool decayed;             // AdamW's decoupled decay: matrices only
  int64_t gradient_offset;  // first element in the flat gradient and moment arrays, multiple of 16
  int64_t num_elements() const { return rows * cols; }
};

// Where parameter i of the table lives.
struct ParameterPlacement {
  int64_t tensor;     // index into ParameterTable::tensors
  int64_t first_row;  // of the stored tensor
};

// Indices of stored tensors; -1 where the architecture has none.
struct MlpTensors {
  int64_t gate_up, down;
};
struct LayerTensors {
  int64_t input_norm, qkv, qkv_bias, q_norm, k_norm, o, post_attention_norm;
  int64_t gate_up, down;            // of a dense layer
  int64_t router;                   // of a layer with experts
  std::vector<MlpTensors> experts;  // empty in a dense layer
};

struct ParameterTable {
  std::vector<Parameter> parameters;  // checkpoint order
  std::vector<ParameterPlacement> placements;
  std::vector<StoredTensor> tensors;
  std::vector<LayerTensors> layers;
  int64_t embedding;
  int64_t final_norm;
  int64_t lm_head;            // equals `embedding` when tied
  int64_t num_flat_elements;  // length of the flat gradient and moment arrays, padding included

  // First element of a parameter in the flat arrays.
  int64_t flat_offset(int64_t parameter) const {
    const ParameterPlacement& placement = placements[parameter];
    return tensors[placement.tensor].gradient_offset + placement.first_row * tensors[placement.tensor].cols;
  }
};

ParameterTable make_parameter_table(const ModelConfig& config);

}  // namespace wideseek
