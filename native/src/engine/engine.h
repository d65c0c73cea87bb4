// Owner of all device state: backend, model, KV cache, trainer. One thread does all the work, in the order of
// submission; queue in, callbacks out. Knows nothing of Node, files or JSON.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

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
};

// Bytes, by what they are for.
struct MemoryPlan {
  int64_t weights = 0;
  int64_t kv_cache = 0;
  int64_t inference = 0;  // workspace of the forward pass, position tables
  int64_t training = 0;   // gradients, moments, activations; 0 until the first training operation
  int64_t allocated = 0;  // everything, now
  int64_t peak = 0;
};

struct EngineStats {
  GeneratorStats generator;
  MemoryPlan memory;
  uint64_t policy_version = 0;
};

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
};

class Engine {
 public:
  // Starts the thread, which builds the device state; if that fails, every operation is rejected with the reason.
  explicit Engine(EngineOptions options);
  // Closes and joins.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // All of these may be called from any thread and return at once. Callbacks run on the engine thread (on the calling
  // one after close) and must not throw.
  // Runs `work` between steps; if it throws, or will never run, calls `reject` instead.
  void post(std::function<void(DeviceState&)> work, std::function<void(std::exception_ptr)> reject);
  // Joins the running batch at the next step. Returns a key for cancel().
  uint64_t generate(GenerateRequest request);
  // The request is rejected with kClosed ("cancelled") before the next step; no effect if it has ended.
  void cancel(uint64_t key);
  // Rejects everything queued or in flight with kClosed after the step in progress; `closed` runs last. Idempotent.
  void close(std::function<void()> closed);
  // Waits for the thread to end; close() must have been called.
  void join();

 private:
  struct Operation {
    std::function<void(DeviceState&)> work;
    std::function<void(std::exception_ptr)> reject;
  };

  void run(EngineOptions options);
  void serve(DeviceState& state);
  void reject_all(std::exception_ptr reason);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;
  std::vector<std::function<void()>> on_closed_;
  bool closing_ = false;
  bool finished_ = false;
  uint64_t next_key_ = 1;
  std::once_flag joined_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace wideseek
