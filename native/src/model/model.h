// A Qwen3, Qwen3-MoE or Qwen2 decoder: its weights, and the ONE forward pass that generation and training share.
// Bit equality rests on this: every row's result depends on that row's tokens and positions alone, never on the
// other rows, on how a prompt was cut into chunks, on thread count, or on whether activations are kept.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "model/config.h"

namespace wideseek {

// One row of the parameter table: the only place that knows a checkpoint name, a shape, or whether AdamW decays it.
struct Parameter {
  std::string name;  // Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight
  std::vector<int64_t> shape;
  bool decayed;  // false for norms and biases
  int64_t num_elements() const;
};

struct InferenceBatch {
  const int32_t* token_ids;  // [num_rows]
  int64_t num_rows;
  const SequenceSlice* sequences;
  int64_t num_sequences;
  const int32_t* logit_rows;  // rows whose logits are wanted
  int64_t num_logit_rows;
  // One of many steps of this kind, whose rows all give logits: the device may record it.
  bool is_repeated = false;
};

// Keys and values of all layers in fixed-size blocks. Owns the memory, not who uses which block (infer/block_manager).
// Generation and training take turns, so a training pass may borrow it.
class KvCache {
 public:
  static constexpr int64_t kBlockTokens = kKvBlockTokens;
  KvCache(Backend& backend, const ModelConfig& config, int64_t num_blocks);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;
  int64_t num_blocks() const;
  int64_t num_bytes() const;
  // At least `bytes` of device memory until the next forward pass that uses the cache, whose content is lost. The
  // memory grows if it is too small; throws kOutOfMemory if it cannot, and has its old size then.
  std::byte* lend(int64_t bytes);
  struct Layer;
  Layer& layer(int64_t index);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Model {
 public:
  // Allocates all weights, uninitialised.
  Model(Backend& backend, const ModelConfig& config, DType weight_dtype);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const;
  DType activation_dtype() const;
  // In checkpoint order; a tied lm_head is not listed.
  const std::vector<Parameter>& parameters() const;

  // Copies a whole parameter in (row-major, converted from `dtype`) or out (as `dtype`).
  void write_parameter(int64_t index, const void* data, DType dtype);
  void read_parameter(int64_t index, void* data, DType dtype) const;
  // Normal(0, std) for matrices and embeddings, ones for norms, zeros for biases; counter-based, so equal on every
  // machine.
  void initialize(uint64_t seed, double std);

  // Writes the new keys and values to `cache`, and shows `use` the logits [count, vocab_size] (fp32, device memory) of
  // logit rows [first, first + count), a chunk at a time. Workspace for up to `max_rows` must have been reserved.
  using UseLogits = std::function<void(int64_t first, int64_t count, const float* logits)>;
  void reserve_inference(int64_t max_rows, int64_t max_context);
  void forward(const InferenceBatch& batch, KvCache& cache, const UseLogits& use);
  // Where a value that is not finite began, as the end of a sentence: computes tokens [0, n) of a sequence again, over
  // its keys and values in the blocks of `block_table`, and looks at what every layer gives.
  std::string find_not_finite(const std::vector<int32_t>& token_ids, const std::vector<int32_t>& block_table,
                              KvCache& cache);

  struct State;
  State& state();

 private:
  // Shows the output [num_rows, hidden_size] of the embedding (layer -1) and of each layer.
  using UseLayer = std::function<void(int64_t layer, ConstTypedPointer x)>;
  void forward(const InferenceBatch& batch, KvCache& cache, const UseLogits& use, const UseLayer& use_layer);

  std::unique_ptr<State> state_;
};

}  // namespace wideseek
