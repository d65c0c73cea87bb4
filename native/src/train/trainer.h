// Forward, backward and AdamW over packed batches, on the weights of a Model.
#pragma once

#include <cstdint>
#include <memory>

#include "model/model.h"
#include "train/batch.h"

namespace wideseek {

// What the backward pass computes again instead of keeping.
enum class Recompute {
  kNone,
  kSelective,  // the MLP's gate and up rows: more than half of a layer's activations, a sixth of its work
  kFull,       // the whole layer; only its input is kept
};

struct TrainerOptions {
  int64_t max_tokens;  // largest packed batch; the workspace is sized for it
  Recompute recompute = Recompute::kNone;
  DType gradient_dtype = DType::kFloat32;  // of weights; bf16 on CUDA only
  bool share_prefixes = true;              // false only to measure what sharing saves
};

struct OptimizerSettings {
  double learning_rate;
  double max_grad_norm;  // infinity = off
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;  // decoupled, decayed parameters only
};

struct OptimizerStepResult {
  double grad_norm;  // before clipping
  bool skipped;      // a gradient was not finite; nothing changed but the gradients, which are zero again
};

enum class TensorKind { kWeight, kGradient, kFirstMoment, kSecondMoment };

class Trainer {
 public:
  // Takes the memory of scoring; that of training is taken by the first operation that needs it, which a
  // mixture-of-experts model refuses with kUnsupported.
  Trainer(Model& model, const TrainerOptions& options);
  // What both will take together, master weights included; of a mixture-of-experts model, what scoring takes.
  static int64_t planned_bytes(Model& model, const TrainerOptions& options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // logprobs, entropies: [T], overwritten; 0 at each sequence's first token. The logprobs equal row_logprob() of the
  // logits that Model::forward gives for the same tokens, bit for bit.
  void logprobs(const PackedBatch& batch, float temperature, float* logprobs, float* entropies);
  // Accumulates gradients of sum_t loss_t. `logprobs` [T] is overwritten with the policy's log-probabilities when not
  // null.
  LossStats forward_backward(const PackedBatch& batch, const LossSettings& loss, float* logprobs);
  OptimizerStepResult optimizer_step(const OptimizerSettings& settings);
  void zero_gradients();

  // fp32, row-major. Weights are the fp32 master copy when the model stores bf16.
  void read_tensor(TensorKind kind, int64_t parameter, float* data);
  void write_tensor(TensorKind kind, int64_t parameter, const float* data);
  int64_t num_steps() const;  // optimizer steps taken, for Adam's bias correction
  void set_num_steps(int64_t steps);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace wideseek
