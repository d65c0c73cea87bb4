// The CUDA backend: memory, weights, and the table from backend.h to the kernels. A CUDA error leaves the device in an
// unknown state, so after one every call fails with the first cause.
#include "cuda/backend_cuda.h"

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cuda/adamw.h"
#include "cuda/attention.h"
#include "cuda/attention_plan.h"
#include "cuda/bias.h"
#include "cuda/embedding.h"
#include "cuda/gemm.h"
#include "cuda/gpu.h"
#include "cuda/kv_store.h"
#include "cuda/logprob.h"
#include "cuda/memory.h"
#include "cuda/qk_norm_rope.h"
#include "cuda/recordings.h"
#include "cuda/rms_norm.h"
#include "cuda/rows.h"
#include "cuda/sample.h"
#include "cuda/staging.h"
#include "cuda/swiglu.h"
#include "cuda/token_loss.h"

namespace wideseek {
namespace cuda {
namespace {

constexpr const char* kAfterFailure =
    "; this engine can do no more: start the program again, a run goes on from its last checkpoint with --resume";

// Row-major, in the dtype of activations.
struct CudaWeight final : Weight {
  CudaWeight(int64_t num_rows, int64_t num_cols, DType type, Memory& owner)
      : memory(owner), data(owner.allocate(num_rows * num_cols * dtype_bytes(type))) {
    rows = num_rows;
    cols = num_cols;
    dtype = type;
  }
  ~CudaWeight() override { memory.free(data); }
  Memory& memory;  // the backend's; it outlives its weights
  void* data;
};

TypedPointer elements(const Weight& weight) { return {static_cast<const CudaWeight&>(weight).data, weight.dtype}; }

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options)
      : options_(options),
        gpu_(options.device),
        memory_(gpu_),
        recordings_(gpu_),
        staging_(gpu_),
        plan_arena_(*this),
        sampler_(*this),
        workspace_(memory_.allocate(Gemm::kWorkspaceBytes)),
        sum_(memory_.allocate(sizeof(double))),
        gemm_(workspace_) {
    WS_CHECK(options.activation_dtype != DType::kFloat16, kUnsupported, "CUDA",
             "activations are float32 or bfloat16, not float16");
    // Whether the driver takes the kernels shows when the first one runs.
    sum_squares(ConstTypedPointer(static_cast<const float*>(nullptr)), 0);
  }
  std::string name() const override { return "cuda"; }
  DType activation_dtype() const override { return options_.activation_dtype; }
  ChunkSizes chunk_sizes() const override { return {8192, int64_t{1} << 28}; }

  void* allocate(int64_t bytes) override {
    return guarded([&] { return memory_.allocate(bytes); });
  }
  void* allocate_optimizer_state(int64_t bytes) override {
    return guarded(
        [&] { return options_.pinned_optimizer_state ? memory_.allocate_host(bytes) : memory_.allocate(bytes); });
  }
  // Not guarded: what owns memory gives it back also after an error.
  void free(void* pointer) override {
    if (pointer != nullptr) recordings_.forget_block(memory_.number_of(pointer));
    memory_.free(pointer);
  }
  void reserve(const PassLimits& limits) override {
    guarded([&] {
      scratch(largest_scratch(limits));
      plan_arena_.reserve(plan_bytes(limits));
      if (!limits.backward) sampler_.reserve(limits.logit_rows);
    });
  }
  int64_t reserved_bytes(const PassLimits& limits) const override {
    return largest_scratch(limits) * static_cast<int64_t>(sizeof(float)) + plan_bytes(limits);
  }
  void upload(void* device, const void* host, int64_t bytes) override {
    guarded(
        [&] { memory_.is_on_host(device) ? gpu_.upload(device, host, bytes) : staging_.upload(device, host, bytes); });
  }
  void download(void* host, const void* device, int64_t bytes) override {
    guarded([&] {
      const bool is_staged = bytes <= Staging::kMaxDownloadBytes && !memory_.is_on_host(device);
      is_staged ? staging_.download(host, device, bytes) : gpu_.download(host, device, bytes);
    });
  }
  void copy(void* out, const void* source, int64_t bytes) override {
    guarded([&] { gpu_.copy(out, source, bytes); });
  }
  void zero(void* pointer, int64_t bytes) override {
    guarded([&] { gpu_.zero(pointer, bytes); });
  }
  void synchronize() override {
    guarded([&] { gpu_.synchronize(); });
  }
  MemoryInfo memory_info() const override {
    MemoryInfo info = memory_.info();
    info.free_bytes = gpu_.free_bytes();
    return info;
  }

  void check_shape(const AttentionShape& shape, int64_t hidden_size) const override {
    constexpr const char* kOp = "CUDA";
    WS_CHECK(shape.head_dim % 2 == 0 && shape.head_dim <= kMaxHeadDim, kUnsupported, kOp,
             "head_dim: got " + std::to_string(shape.head_dim) + "; the kernels take even sizes up to " +
                 std::to_string(kMaxHeadDim) + "; run this model with device cpu");
    WS_CHECK(hidden_size <= kMaxNormColumns, kUnsupported, kOp,
             "hidden_size: got " + std::to_string(hidden_size) + "; the kernels take up to " +
                 std::to_string(kMaxNormColumns) + "; run this model with device cpu");
  }
  std::unique_ptr<Weight> create_weight(int64_t rows, int64_t cols, DType dtype) override {
    WS_CHECK(dtype == options_.activation_dtype, kUnsupported, "create_weight",
             "weights and activations must have one dtype on CUDA");
    return guarded([&] {
      gemm_.prepare(ProductKind::kForward, rows, cols, dtype, dtype);
      gemm_.prepare(ProductKind::kBackwardInput, rows, cols, dtype, dtype);
      return std::make_unique<CudaWeight>(rows, cols, dtype, memory_);
    });
  }
  void store_weight(Weight& weight, int64_t first_row, int64_t num_rows, const float* source) override {
    guarded([&] { convert(stream(), elements(weight) + first_row * weight.cols, source, num_rows * weight.cols); });
  }
  void load_weight(const Weight& weight, int64_t first_row, int64_t num_rows, float* out) override {
    guarded([&] { convert(stream(), out, elements(weight) + first_row * weight.cols, num_rows * weight.cols); });
  }
  void store_vector(float* out, const float* source, int64_t count, DType dtype) override {
    guarded([&] { cuda::store_vector(stream(), out, source, count, dtype); });
  }

  void embedding_forward(TypedPointer out, const Weight& table, const int32_t* token_ids, int64_t T) override {
    guarded([&] { cuda::embedding_forward(stream(), out, elements(table), token_ids, T, table.cols); });
  }
  void embedding_backward(TypedPointer dtable, ConstTypedPointer dout, const int32_t* token_ids, int64_t T,
                          int64_t C) override {
    guarded([&] {
      cuda::embedding_backward(stream(), dtable, dout, token_ids, T, C, scratch(embedding_backward_scratch(T, C)));
    });
  }

  void rms_norm_forward(TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                        float eps) override {
    guarded([&] { cuda::rms_norm_forward(stream(), out, x, weight, T, C, eps); });
  }
  void rms_norm_backward(TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x,
                         const float* weight, int64_t T, int64_t C, float eps) override {
    guarded([&] {
      cuda::rms_norm_backward(stream(), dx, dweight, dout, x, weight, T, C, eps, scratch(rms_norm_backward_scratch(C)));
    });
  }

  void linear_forward(TypedPointer out, ConstTypedPointer x, const Weight& weight, const float* bias,
                      ConstTypedPointer residual, int64_t T) override {
    WS_CHECK(bias == nullptr || !residual, kUnsupported, "linear_forward", "a bias together with a residual");
    guarded([&] {
      if (bias != nullptr) fill_with_bias(stream(), out, bias, T, weight.rows);
      const ConstTypedPointer add = bias != nullptr ? out : residual;
      gemm_.multiply(stream(), {ProductKind::kForward, out, x, elements(weight), add, T, weight.rows, weight.cols});
    });
  }
  void linear_backward_input(TypedPointer dx, ConstTypedPointer dout, const Weight& weight, int64_t T) override {
    guarded([&] {
      gemm_.multiply(stream(),
                     {ProductKind::kBackwardInput, dx, dout, elements(weight), {}, T, weight.rows, weight.cols});
    });
  }
  void linear_backward_weight(TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x, int64_t T, int64_t N,
                              int64_t K) override {
    guarded([&] { gemm_.multiply(stream(), {ProductKind::kBackwardWeight, dweight, dout, x, dweight, T, N, K}); });
  }
  void bias_backward(TypedPointer dbias, ConstTypedPointer dout, int64_t T, int64_t N) override {
    guarded([&] { cuda::bias_backward(stream(), dbias, dout, T, N, scratch(bias_backward_scratch(N))); });
  }

  void qk_norm_rope_forward(TypedPointer out, ConstTypedPointer qkv, const float* q_norm, const float* k_norm,
                            const float* cos, const float* sin, const int32_t* positions, const AttentionShape& shape,
                            int64_t T, float eps) override {
    guarded(
        [&] { cuda::qk_norm_rope_forward(stream(), out, qkv, q_norm, k_norm, cos, sin, positions, shape, T, eps); });
  }
  void qk_norm_rope_backward(TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm, ConstTypedPointer qkv,
                             const float* q_norm, const float* k_norm, const float* cos, const float* sin,
                             const int32_t* positions, const AttentionShape& shape, int64_t T, float eps) override {
    guarded([&] {
      cuda::qk_norm_rope_backward(stream(), dqkv, dq_norm, dk_norm, qkv, q_norm, k_norm, cos, sin, positions, shape, T,
                                  eps, scratch(qk_norm_rope_backward_scratch(shape)));
    });
  }
  std::unique_ptr<AttentionPlan> plan_attention(const AttentionShape& shape, const SequenceSlice* slices,
                                                int64_t num_slices, int64_t num_rows) override {
    return guarded([&] { return cuda::plan_attention(*this, shape, slices, num_slices, num_rows, &plan_arena_); });
  }
  void kv_store(const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan) override {
    guarded([&] { cuda::kv_store(stream(), cache, qkv, plan); });
  }
  void attention_forward(TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                         const AttentionPlan& plan) override {
    guarded([&] {
      cuda::attention_forward(stream(), out, lse, qkv, cache, plan,
                              scratch(attention_forward_scratch(qkv.dtype, plan)));
    });
  }
  void attention_backward(TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out, const float* lse,
                          ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks& dcache,
                          const AttentionPlan& plan) override {
    guarded([&] {
      cuda::attention_backward(stream(), dqkv, dout, out, lse, qkv, cache, dcache, plan,
                               scratch(attention_backward_scratch(plan)));
    });
  }

  void swiglu_forward(TypedPointer out, ConstTypedPointer gate_up, int64_t T, int64_t F) override {
    guarded([&] { cuda::swiglu_forward(stream(), out, gate_up, T, F); });
  }
  void swiglu_backward(TypedPointer gate_up, ConstTypedPointer dout, int64_t T, int64_t F) override {
    guarded([&] { cuda::swiglu_backward(stream(), gate_up, dout, T, F); });
  }
  void expert_linear_forward(TypedPointer out, ConstTypedPointer x, const Weight* const* weights,
                             const int64_t* first_rows, int64_t E) override {
    guarded([&] {
      std::vector<const void*> matrices;
      for (int64_t e = 0; e < E; ++e) matrices.push_back(elements(*weights[e]).data);
      gemm_.multiply_experts(stream(), {out, x, matrices.data(), first_rows, E, weights[0]->rows, weights[0]->cols});
    });
  }
  void combine_rows(TypedPointer out, ConstTypedPointer residual, ConstTypedPointer values, const int32_t* rows,
                    const float* shares, int64_t T, int64_t k, int64_t C) override {
    guarded([&] { cuda::combine_rows(stream(), out, residual, values, rows, shares, T, k, C); });
  }
  void gather_rows(TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C) override {
    guarded([&] { cuda::gather_rows(stream(), out, x, rows, R, C); });
  }
  void scatter_rows(TypedPointer x, ConstTypedPointer values, const int32_t* rows, int64_t R, int64_t C) override {
    guarded([&] { cuda::scatter_rows(stream(), x, values, rows, R, C); });
  }

  void logprob_forward(float* logprobs, float* row_max, float* row_log_sum, float* row_entropy, const float* logits,
                       const Targets& targets, int64_t R, int64_t V, float temperature) override {
    guarded([&] {
      cuda::logprob_forward(stream(), logprobs, row_max, row_log_sum, row_entropy, logits, targets, R, V, temperature,
                            scratch(logprob_forward_scratch(R)));
    });
  }
  void logprob_backward(TypedPointer dlogits, const float* logits, const float* dlogprobs, const float* row_max,
                        const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                        float temperature) override {
    guarded([&] {
      cuda::logprob_backward(stream(), dlogits, logits, dlogprobs, row_max, row_log_sum, targets, R, V, temperature,
                             scratch(logprob_backward_scratch(R)));
    });
  }
  void token_loss(float* dlogprobs, LossStats* stats, const float* logprobs, const float* row_entropy,
                  const Targets& targets, const LossInputs& inputs, const LossSettings& settings) override {
    guarded([&] { cuda::token_loss(stream(), dlogprobs, stats, logprobs, row_entropy, targets, inputs, settings); });
  }

  void sample(SampledToken* tokens, const float* logits, const SampleRequest* requests, int64_t R, int64_t V) override {
    guarded([&] { sampler_.sample(stream(), tokens, logits, requests, R, V); });
  }

  int64_t recorded_rows(int64_t rows) const override { return cuda::recorded_rows(rows); }
  void replay(uint64_t key, const std::function<void()>& work) override {
    guarded([&] { recordings_.replay(key, memory_.num_blocks_so_far(), work); });
  }
  int64_t num_replays() const override { return recordings_.num_replays(); }

  double sum_squares(ConstTypedPointer values, int64_t count) override {
    return guarded([&] {
      auto* device_sum = static_cast<double*>(sum_);
      cuda::sum_squares(stream(), device_sum, values, count, scratch(sum_squares_scratch()));
      double sum = 0;
      gpu_.download(&sum, device_sum, sizeof(sum));
      return sum;
    });
  }
  void adamw_matrix(Weight& weight, const AdamWState& state, const AdamWStep& step) override {
    guarded([&] { cuda::adamw_matrix(stream(), elements(weight), weight.rows * weight.cols, state, step); });
  }
  void adamw_vector(float* weights, DType dtype, int64_t count, const AdamWState& state,
                    const AdamWStep& step) override {
    guarded([&] { cuda::adamw_vector(stream(), weights, dtype, count, state, step); });
  }

 private:
  Stream stream() const { return gpu_.stream(); }

  template <typename F>
  std::invoke_result_t<F> guarded(F&& call) {
    WS_CHECK(failure_.empty(), kDeviceLost, "CUDA", "the GPU failed before, in " + failure_ + kAfterFailure);
    try {
      return call();
    } catch (const Error& error) {
      // What a recording refuses did not happen on the device.
      if (error.code() != ErrorCode::kDeviceLost || recordings_.is_recording()) throw;
      if (!failure_.empty()) throw;  // by a call inside this one
      failure_ = error.op() + ": " + error.what();
      throw Error(error.code(), error.op(), std::string(error.what()) + kAfterFailure);
    }
  }

  static int64_t plan_bytes(const PassLimits& limits) {
    if (limits.kv_blocks > 0 && !limits.backward) return forward_plan_bytes(limits.tokens, limits.kv_blocks);
    return attention_plan_bytes(limits.tokens, limits.backward);
  }

  // Of operations over the limits' rows, in floats.
  int64_t largest_scratch(const PassLimits& limits) const {
    const AttentionShape& shape = limits.attention;
    const int64_t forward = std::max(logprob_forward_scratch(limits.logit_rows),
                                     attention_forward_scratch(options_.activation_dtype, shape, limits.tokens,
                                                               std::max(limits.tokens, limits.max_context)));
    if (!limits.backward) return forward;
    return std::max({forward, embedding_backward_scratch(limits.tokens, limits.hidden_size),
                     rms_norm_backward_scratch(limits.hidden_size), bias_backward_scratch(shape.qkv_size()),
                     qk_norm_rope_backward_scratch(shape), attention_backward_scratch(shape, limits.tokens),
                     logprob_backward_scratch(limits.logit_rows), sum_squares_scratch()});
  }

  // The one temporary array. Kernels run in order, so each may use all of it.
  float* scratch(int64_t floats) {
    if (floats > scratch_floats_) {
      free(std::exchange(scratch_, nullptr));
      scratch_floats_ = 0;
      scratch_ = memory_.allocate(floats * static_cast<int64_t>(sizeof(float)));
      scratch_floats_ = floats;
    }
    return static_cast<float*>(scratch_);
  }

  CudaBackendOptions options_;
  Gpu gpu_;
  Memory memory_;  // frees what is left
  Recordings recordings_;
  Staging staging_;
  PlanArena plan_arena_;
  Sampler sampler_;
  void* workspace_;
  void* sum_;  // on its way to the host
  Gemm gemm_;
  void* scratch_ = nullptr;
  int64_t scratch_floats_ = 0;
  std::string failure_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> create_cuda_backend(const CudaBackendOptions& options) {
  return std::make_unique<cuda::CudaBackend>(options);
}

}  // namespace wideseek
