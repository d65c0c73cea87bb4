// All device state of one engine and the operations on it. Touched only on the engine thread; knows no queue.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "infer/generator.h"
#include "model/model.h"
#include "train/trainer.h"

namespace wideseek {

struct EngineOptions {
  std::string device;  // "cpu" or "cuda"
  int num_threads;
  ModelConfig config;
  DType weight_dtype;
  GeneratorOptions generator;
  TrainerOptions trainer;
  bool pinned_optimizer_state = false;  // master weights and moments in host memory; CUDA only
  // Gradients may be computed between the steps of a generation: the pass gets memory of its own instead of that of the
  // KV cache. No result depends on it.
  bool train_while_generating = false;
};

// Bytes, by what they are for.
struct MemoryPlan {
  int64_t weights = 0;
  int64_t kv_cache = 0;
  int64_t inference = 0;  // workspace of the forward pass, position tables
  int64_t training = 0;   // gradients, moments, master weights, activations; taken by the first training operation
  int64_t allocated = 0;  // everything, now
  int64_t peak = 0;
};

struct EngineStats {
  GeneratorStats generator;
  double training_seconds = 0;  // in forward and backward passes, scoring and optimizer steps
  MemoryPlan memory;
  uint64_t policy_version = 0;
};

// Tokens of a KV cache in `bytes` of free device memory, in which a training pass of pass_bytes must find room too.
// Throws kOutOfMemory if that or one context does not fit.
int64_t tokens_that_fit(int64_t bytes, int64_t pass_bytes, int64_t token_bytes, int64_t max_context_tokens);

// What operations run against; exists and is touched only on the engine thread.
class DeviceState {
 public:
  explicit DeviceState(const EngineOptions& options);

  const Model& model() const { return *model_; }
  Generator& generator() { return *generator_; }
  uint64_t policy_version() const { return policy_version_; }
  EngineStats stats() const;
  std::string device_name() const { return backend_->name(); }
  // Throws kInvalidArgument, naming `op`, if there is no such parameter.
  const Parameter& parameter(int64_t index, const char* op) const;

  // Throws kInvalidState while sequences are in flight, naming `op`.
  void check_idle(const char* op) const;
  // Created on first use.
  Trainer& trainer();

  // As Trainer::logprobs.
  void logprobs(const PackedBatch& batch, float temperature, float* logprobs, float* entropies);
  // Logits [T, vocab_size] of every position of one sequence, computed apart from the KV cache of generation.
  std::vector<float> logits(const std::vector<int32_t>& token_ids);
  void write_parameter(int64_t index, const void* data, DType dtype);
  void initialize(uint64_t seed, double std);
  void set_version(uint64_t version);
  LossStats forward_backward(const PackedBatch& batch, const LossSettings& loss);
  OptimizerStepResult optimizer_step(const OptimizerSettings& settings);
  void zero_gradients();
  void read_tensor(TensorKind kind, int64_t index, float* data);
  void write_tensor(TensorKind kind, int64_t index, const float* data);
  int64_t num_optimizer_steps();
  void set_num_optimizer_steps(int64_t steps);

 private:
  void weights_changed();

  GeneratorOptions generator_options_;
  TrainerOptions trainer_options_;
  MemoryPlan plan_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Generator> generator_;
  std::unique_ptr<Trainer> trainer_;
  uint64_t policy_version_ = 0;
  bool train_while_generating_;
  double training_seconds_ = 0;
};

}  // namespace wideseek
