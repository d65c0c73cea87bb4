// THE seam: what a device must be able to do for one Qwen decoder. The unit is the fused operation as the model needs
// it. The model's forward and backward pass, the trainer and the optimizer are written once, against this page.
//
// Pointers are device memory unless "host" is said; arrays are row-major, [rows, cols]. float* is fp32; a TypedPointer
// is an activation, of activation_dtype(), or a gradient of weights, of the dtype that the trainer chose. Arithmetic is
// fp32 at least. Outputs are overwritten unless "accumulated" is said, and alias no input unless said. Work runs on one
// in-order stream; only download, synchronize and functions that return numbers wait for it. Every operation gives the
// same bits for any number of threads, and a row of a forward operation depends on that row (and, in attention, on its
// own sequence) alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/dtype.h"
#include "base/sampling.h"
#include "base/typed_pointer.h"
#include "train/batch.h"

namespace wideseek {

// Tokens per block of the paged key/value memory; also the unit of the attention kernels' fixed reduction order.
constexpr int64_t kKvBlockTokens = 16;

// A matrix [rows = output features, cols = input features] in the layout that the device's products want.
class Weight {
 public:
  virtual ~Weight() = default;
  int64_t rows = 0;
  int64_t cols = 0;
  DType dtype = DType::kFloat32;
};

// New tokens of one sequence inside a packed batch. Lives in host memory, as does the block table.
struct SequenceSlice {
  int64_t first_row;
  int64_t num_rows;
  int64_t first_position;      // tokens of this sequence that are already in the cache
  const int32_t* block_table;  // KV blocks that cover positions [0, first_position + num_rows)
};

struct AttentionShape {
  int64_t num_heads;     // H
  int64_t num_kv_heads;  // K, divides H
  int64_t head_dim;      // D
  int64_t qkv_size() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// Keys and values of one layer in blocks of 16 tokens; the order inside a block is the device's own.
struct KvBlocks {
  TypedPointer keys;    // [num_blocks, 16*K*D]
  TypedPointer values;  // [num_blocks, 16*K*D]
};

// What a device prepares once for all layers of a pass over the same slices.
class AttentionPlan {
 public:
  virtual ~AttentionPlan() = default;
  // What a recording (Backend::replay) knows of the plan: the same for plans whose lists lie in one place and ask for
  // the same launches. 0: its lists lie where others will not.
  virtual uint64_t recording_key() const { return 0; }
};

// One trained next-token prediction of a chunk of logit rows. Targets are sorted by row.
struct Targets {
  int64_t num_targets;
  const int32_t* rows;  // row of the chunk whose logits predict the token
  const int32_t* tokens;
};

// Per target; null where the loss does not use it.
struct LossInputs {
  const float* weights;
  const float* advantages;
  const float* behavior_logprobs;
  const float* ref_logprobs;
};

struct AdamWStep {
  double learning_rate, beta1, beta2, epsilon, weight_decay;  // decay 0 for a tensor that is not decayed
  double gradient_scale;                                      // clip coefficient
  int64_t step;                                               // 1 = first
};

// What the optimizer keeps for one matrix or vector, in its row-major order.
struct AdamWState {
  float* master;  // fp32 weights, or null
  TypedPointer gradients;
  float* first_moment;
  float* second_moment;
  AdamWState operator+(int64_t elements) const {
    return {master == nullptr ? nullptr : master + elements, gradients + elements, first_moment + elements,
            second_moment + elements};
  }
};

// How much of a batch one call takes: enough to fill the device, little enough that scratch stays small and, on a CPU,
// in its cache. No result depends on it.
struct ChunkSizes {
  int64_t layer_rows;       // rows of a row-wise operation
  int64_t logits_elements;  // rows * vocab_size of the logits that exist at one time
};

// The largest pass that a trainer will run.
struct PassLimits {
  AttentionShape attention;
  int64_t hidden_size;
  int64_t tokens;      // of the packed sequences, before prefixes are shared
  int64_t logit_rows;  // of a chunk
  bool backward;
  int64_t kv_blocks = 0;    // in the block tables of all slices; 0: no more than the tokens fill
  int64_t max_context = 0;  // positions of a slice; 0: no more than tokens
};

struct MemoryInfo {
  int64_t allocated_bytes;  // now, by this backend
  int64_t peak_bytes;
  int64_t free_bytes;  // that it could still allocate; 0 where nobody knows
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  virtual DType activation_dtype() const = 0;
  virtual ChunkSizes chunk_sizes() const = 0;

  // ---- memory. Throws kOutOfMemory with the size asked for. 64-byte aligned, uninitialised.
  virtual void* allocate(int64_t bytes) = 0;
  // For arrays that the optimizer alone reads and writes: may lie where access is slow and room is cheap.
  virtual void* allocate_optimizer_state(int64_t bytes) { return allocate(bytes); }
  virtual void free(void* pointer) = 0;  // null is allowed
  // Memory that operations need beside their arguments, taken ahead so that no pass within `limits` allocates.
  virtual void reserve(const PassLimits&) {}
  virtual int64_t reserved_bytes(const PassLimits&) const { return 0; }
  // `host` has been read when this returns.
  virtual void upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void download(void* host, const void* device, int64_t bytes) = 0;
  virtual void copy(void* out, const void* source, int64_t bytes) = 0;  // within the device
  virtual void zero(void* pointer, int64_t bytes) = 0;
  virtual void synchronize() = 0;
  virtual MemoryInfo memory_info() const = 0;

  // Throws kUnsupported, naming the size, if no kernel takes models of this shape.
  virtual void check_shape(const AttentionShape&, int64_t /*hidden_size*/) const {}

  // ---- weights. `dtype` is fp32 or bf16; products widen bf16 to fp32 exactly.
  virtual std::unique_ptr<Weight> create_weight(int64_t rows, int64_t cols, DType dtype) = 0;
  // Rows [first_row, first_row + num_rows) from / to row-major device fp32; storing rounds to nearest even.
  virtual void store_weight(Weight& weight, int64_t first_row, int64_t num_rows, const float* source) = 0;
  virtual void load_weight(const Weight& weight, int64_t first_row, int64_t num_rows, float* out) = 0;
  // out [count] fp32 = source, rounded to `dtype`: norms and biases hold the values their dtype can represent.
  virtual void store_vector(float* out, const float* source, int64_t count, DType dtype) = 0;

  // ---- token embedding
  // out [T,C] = table[token_ids]; token_ids [T] in range.
  virtual void embedding_forward(TypedPointer out, const Weight& table, const int32_t* token_ids, int64_t T) = 0;
  // dtable [V,C] accumulated, row token_ids[t] += dout [T,C] row t.
  virtual void embedding_backward(TypedPointer dtable, ConstTypedPointer dout, const int32_t* token_ids, int64_t T,
                                  int64_t C) = 0;

  // ---- RMSNorm (HF Qwen3RMSNorm): out [T,C] = x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps). out may be x.
  virtual void rms_norm_forward(TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                                float eps) = 0;
  // dx [T,C] accumulated, dweight [C] accumulated. rstd is computed again from x.
  virtual void rms_norm_backward(TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x,
                                 const float* weight, int64_t T, int64_t C, float eps) = 0;

  // ---- linear layers, N = weight.rows, K = weight.cols
  // out [T,N] = x [T,K] weight^T (+ bias [N]) (+ residual [T,N]); bias and residual may be null, out may be residual.
  virtual void linear_forward(TypedPointer out, ConstTypedPointer x, const Weight& weight, const float* bias,
                              ConstTypedPointer residual, int64_t T) = 0;
  // dx [T,K] = dout [T,N] weight.
  virtual void linear_backward_input(TypedPointer dx, ConstTypedPointer dout, const Weight& weight, int64_t T) = 0;
  // dweight [N,K] accumulated += dout^T x.
  virtual void linear_backward_weight(TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x, int64_t T,
                                      int64_t N, int64_t K) = 0;
  // dbias [N] accumulated += column sums of dout [T,N].
  virtual void bias_backward(TypedPointer dbias, ConstTypedPointer dout, int64_t T, int64_t N) = 0;

  // ---- attention. qkv rows are [q: H*D | k: K*D | v: K*D].
  // Per-head RMSNorm of q and k (weights [D], null = none), then the half-split rotation by cos/sin [positions, D/2] at
  // positions [T]; v is copied. out [T,qkv_size] may be qkv.
  virtual void qk_norm_rope_forward(TypedPointer out, ConstTypedPointer qkv, const float* q_norm, const float* k_norm,
                                    const float* cos, const float* sin, const int32_t* positions,
                                    const AttentionShape& shape, int64_t T, float eps) = 0;
  // dqkv [T,qkv_size] in place: in, gradient of the rotated rows; out, of `qkv`, the rows before norm and rotation.
  // dq_norm, dk_norm [D] accumulated.
  virtual void qk_norm_rope_backward(TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm,
                                     ConstTypedPointer qkv, const float* q_norm, const float* k_norm, const float* cos,
                                     const float* sin, const int32_t* positions, const AttentionShape& shape, int64_t T,
                                     float eps) = 0;
  // The slices and their tables must outlive the plan. num_rows: of the batch, where rows that belong to no slice come
  // after those that do. Their keys are stored nowhere and what attention makes of them is not defined.
  virtual std::unique_ptr<AttentionPlan> plan_attention(const AttentionShape& shape, const SequenceSlice* slices,
                                                        int64_t num_slices, int64_t num_rows = 0) = 0;
  // Copies the k and v parts of rotated rows to their blocks.
  virtual void kv_store(const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan) = 0;
  // Causal, grouped-query, scale D^-1/2. out [T,H*D]; lse [T,H] = ln sum exp of the scaled scores, may be null.
  virtual void attention_forward(TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                                 const AttentionPlan& plan) = 0;
  // dqkv [T,qkv_size]. Slices may share blocks: the gradients of a shared block's keys and values are the sum over all
  // slices that attend to it, and appear in the rows that stored it. Every block that a table names was stored by rows
  // of this batch. dcache is scratch with as many blocks as cache.
  virtual void attention_backward(TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out, const float* lse,
                                  ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks& dcache,
                                  const AttentionPlan& plan) = 0;

  // ---- SwiGLU. gate_up rows are [gate: F | up: F].
  // out [T,F] = silu(gate) * up.
  virtual void swiglu_forward(TypedPointer out, ConstTypedPointer gate_up, int64_t T, int64_t F) = 0;
  // gate_up [T,2F] in place: becomes its own gradient, from dout [T,F].
  virtual void swiglu_backward(TypedPointer gate_up, ConstTypedPointer dout, int64_t T, int64_t F) = 0;

  // ---- experts. Rows are sorted by expert: those of expert e are [first_rows[e], first_rows[e + 1]), host [E + 1].
  // out [R,N] = x [R,K] weights[e]^T; all E weights have one shape. Those of experts without rows are not read.
  virtual void expert_linear_forward(TypedPointer out, ConstTypedPointer x, const Weight* const* weights,
                                     const int64_t* first_rows, int64_t E) {
    for (int64_t e = 0; e < E; ++e) {
      const int64_t count = first_rows[e + 1] - first_rows[e];
      const Weight& weight = *weights[e];
      if (count == 0) continue;
      linear_forward(out + first_rows[e] * weight.rows, x + first_rows[e] * weight.cols, weight, nullptr, {}, count);
    }
  }
  // out [T,C] = residual + sum over j < k of shares[t,j] * values[rows[t,j]], one chain of fused multiply-adds from the
  // residual on. out may be residual.
  virtual void combine_rows(TypedPointer out, ConstTypedPointer residual, ConstTypedPointer values, const int32_t* rows,
                            const float* shares, int64_t T, int64_t k, int64_t C) = 0;

  // ---- rows
  // out [R,C] = x[rows].
  virtual void gather_rows(TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C) = 0;
  // x[rows] = values [R,C]; rows are distinct.
  virtual void scatter_rows(TypedPointer x, ConstTypedPointer values, const int32_t* rows, int64_t R, int64_t C) = 0;

  // ---- next-token distribution, z = logits / temperature, in the reduction order of row_logprob().
  // row_max [R], row_log_sum [R] (ln sum exp(z - max)) and row_entropy [R] (nats) of logits [R,V]; logprobs per target.
  virtual void logprob_forward(float* logprobs, float* row_max, float* row_log_sum, float* row_entropy,
                               const float* logits, const Targets& targets, int64_t R, int64_t V,
                               float temperature) = 0;
  // dlogits [R,V] from dlogprobs per target; dlogits may be logits if it is fp32.
  virtual void logprob_backward(TypedPointer dlogits, const float* logits, const float* dlogprobs, const float* row_max,
                                const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                                float temperature) = 0;
  // dlogprobs = d(sum_t weight_t * loss_t)/d logprob_t per target. Adds to the one `stats`, which begins as zero bytes.
  virtual void token_loss(float* dlogprobs, LossStats* stats, const float* logprobs, const float* row_entropy,
                          const Targets& targets, const LossInputs& inputs, const LossSettings& settings) = 0;

  // tokens (host) [R], each drawn from its row of logits [R,V]. requests (host) [R], valid, history in range. Where the
  // logits are equal to the bit, so are the tokens, on every device.
  virtual void sample(SampledToken* tokens, const float* logits, const SampleRequest* requests, int64_t R,
                      int64_t V) = 0;

  // ---- steps that come again and again
  // How many rows a step of `rows` is to have, so that few recordings serve all; 0: nothing is recorded.
  virtual int64_t recorded_rows(int64_t /*rows*/) const { return 0; }
  // Runs `work`; or instead what it did when it last ran with this key, on the same addresses with what lies there now.
  // So for one key it must call the same operations with the same arguments, none of which waits. Recordings are
  // forgotten when memory that they may name is freed.
  virtual void replay(uint64_t /*key*/, const std::function<void()>& work) { work(); }
  // How often `work` was not called.
  virtual int64_t num_replays() const { return 0; }

  // ---- optimizer
  // Sum of squares in double, in a fixed order. Not finite if a value is not.
  virtual double sum_squares(ConstTypedPointer values, int64_t count) = 0;
  // torch.optim.AdamW on all of a matrix or vector: weights and moments updated in place, gradients set to zero.
  // `state.master` null: the weights are their own fp32 master; else they become the master, rounded to their dtype.
  virtual void adamw_matrix(Weight& weight, const AdamWState& state, const AdamWStep& step) = 0;
  virtual void adamw_vector(float* weights, DType dtype, int64_t count, const AdamWState& state,
                            const AdamWStep& step) = 0;
};

// device "cpu", whose activations are fp32, or "cuda", whose activations have the dtype of weights and whose optimizer
// state may lie in pinned host memory. kUnsupported, as a sentence that tells what is missing, where CUDA cannot run;
// kInvalidArgument for other devices. num_threads >= 1.
std::unique_ptr<Backend> create_backend(const std::string& device, int num_threads,
                                        DType weight_dtype = DType::kFloat32, bool pinned_optimizer_state = false);

// ln softmax(logits / temperature)[token] of one row of [vocab_size] host logits, in the exact reduction order that the
// training forward uses. temperature must be > 0. Also used by the sampler, which is what makes it on-policy to the
// bit.
float row_logprob(const float* logits, int64_t vocab_size, int32_t token, float temperature);

// probabilities [vocab_size] = softmax(logits / temperature), overwritten, host memory. temperature must be > 0.
void row_softmax(const float* logits, int64_t vocab_size, float temperature, float* probabilities);

// The distribution that Backend::sample draws from. logits and probabilities [vocab_size] in host memory, the latter
// overwritten, 0 where filtered out. Logits must be finite.
void filter_probabilities(const float* logits, int64_t vocab_size, const SamplingSettings& settings,
                          TokenHistory history, double* probabilities);

// Owned device array of T.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(Backend& backend, int64_t count)
      : backend_(&backend),
        data_(static_cast<T*>(backend.allocate(count * static_cast<int64_t>(sizeof(T))))),
        count_(count) {}
  static DeviceArray optimizer_state(Backend& backend, int64_t count) {
    DeviceArray array;
    array.data_ = static_cast<T*>(backend.allocate_optimizer_state(count * static_cast<int64_t>(sizeof(T))));
    array.backend_ = &backend;
    array.count_ = count;
    return array;
  }
  DeviceArray(DeviceArray&& other) noexcept { swap(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    DeviceArray moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~DeviceArray() {
    if (backend_ != nullptr) backend_->free(data_);
  }
  T* get() const { return data_; }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

 private:
  void swap(DeviceArray& other) {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }
  Backend* backend_ = nullptr;
  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace wideseek
