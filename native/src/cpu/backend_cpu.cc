// The CPU backend: memory, weights, and the table from backend.h to the kernels. Work is done when a call returns.
#include "cpu/backend_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "base/error.h"
#include "cpu/attention.h"
#include "cpu/gemm.h"
#include "cpu/row_ops.h"
#include "cpu/sample.h"
#include "cpu/threads.h"

namespace wideseek {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{1} << 21;

struct CpuWeight final : Weight {
  CpuWeight(int64_t num_rows, int64_t num_cols, DType type, MemoryInfo& info)
      : packed(num_rows, num_cols, type), memory(info) {
    rows = num_rows;
    cols = num_cols;
    dtype = type;
    memory.allocated_bytes += packed.bytes();
    memory.peak_bytes = std::max(memory.peak_bytes, memory.allocated_bytes);
  }
  ~CpuWeight() override { memory.allocated_bytes -= packed.bytes(); }
  PackedWeight packed;
  MemoryInfo& memory;  // the backend's; it outlives its weights
};

PackedWeight& packed(Weight& weight) { return static_cast<CpuWeight&>(weight).packed; }
const PackedWeight& packed(const Weight& weight) { return static_cast<const CpuWeight&>(weight).packed; }

// Columns of packed qkv rows.
int64_t key_offset(const AttentionShape& shape) { return shape.num_heads * shape.head_dim; }
int64_t value_offset(const AttentionShape& shape) { return (shape.num_heads + shape.num_kv_heads) * shape.head_dim; }

struct SliceList {
  AttentionShape shape;
  const SequenceSlice* slices;
  int64_t num_slices;
};

struct CpuAttentionPlan final : AttentionPlan {
  explicit CpuAttentionPlan(const SliceList& all) : list(all) {}
  SliceList list;
};

const SliceList& cpu_plan(const AttentionPlan& plan) { return static_cast<const CpuAttentionPlan&>(plan).list; }

// Elements of a weight that AdamW takes at a time when they pass through a buffer, so that the buffer fits the cache.
constexpr int64_t kOptimizerElements = int64_t{1} << 18;

float attention_scale(const AttentionShape& shape) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int num_threads) : pool_(num_threads) {}
  std::string name() const override { return "cpu"; }
  DType activation_dtype() const override { return DType::kFloat32; }
  // 16 MB of logits.
  ChunkSizes chunk_sizes() const override { return {512, int64_t{1} << 22}; }

  void* allocate(int64_t bytes) override {
    const int64_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    void* pointer =
        ::operator new(static_cast<size_t>(std::max<int64_t>(bytes, 1)), std::align_val_t(alignment), std::nothrow);
    WS_CHECK(pointer != nullptr, kOutOfMemory, "allocate",
             "could not allocate " + std::to_string(bytes) + " bytes; " + std::to_string(memory_.allocated_bytes) +
                 " are allocated");
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(pointer, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint only
#endif
    sizes_[pointer] = bytes;
    memory_.allocated_bytes += bytes;
    memory_.peak_bytes = std::max(memory_.peak_bytes, memory_.allocated_bytes);
    return pointer;
  }
  void free(void* pointer) override {
    if (pointer == nullptr) return;
    const auto entry = sizes_.find(pointer);
    WS_CHECK(entry != sizes_.end(), kInternal, "free", "pointer was not allocated by this backend");
    const int64_t bytes = entry->second;
    sizes_.erase(entry);
    memory_.allocated_bytes -= bytes;
    ::operator delete(pointer, std::align_val_t(bytes >= kHugePage ? kHugePage : kAlignment));
  }
  void upload(void* device, const void* host, int64_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, int64_t bytes) override { copy(host, device, bytes); }
  void copy(void* out, const void* source, int64_t bytes) override {
    if (bytes > 0) std::memcpy(out, source, static_cast<size_t>(bytes));
  }
  void zero(void* pointer, int64_t bytes) override {
    auto* first = static_cast<char*>(pointer);
    pool_.parallel_for(bytes, int64_t{1} << 20, [&](int64_t begin, int64_t end, int) {
      std::memset(first + begin, 0, static_cast<size_t>(end - begin));
    });
  }
  void synchronize() override {}
  MemoryInfo memory_info() const override { return memory_; }

  std::unique_ptr<Weight> create_weight(int64_t rows, int64_t cols, DType dtype) override {
    return std::make_unique<CpuWeight>(rows, cols, dtype, memory_);
  }
  void store_weight(Weight& weight, int64_t first_row, int64_t num_rows, const float* source) override {
    packed(weight).store_rows(pool_, first_row, num_rows, source);
  }
  void load_weight(const Weight& weight, int64_t first_row, int64_t num_rows, float* out) override {
    packed(weight).load_rows(pool_, first_row, num_rows, out);
  }
  void store_vector(float* out, const float* source, int64_t count, DType dtype) override {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = dtype == DType::kBFloat16 ? bf16_to_float(float_to_bf16(source[i])) : source[i];
    }
  }

  void embedding_forward(TypedPointer out, const Weight& table, const int32_t* token_ids, int64_t T) override {
    const PackedWeight& rows = packed(table);
    float* first = out.fp32();
    pool_.parallel_for(T, cpu::row_grain(table.cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) rows.load_row(token_ids[t], first + t * table.cols);
    });
  }
  void embedding_backward(TypedPointer dtable, ConstTypedPointer dout, const int32_t* token_ids, int64_t T,
                          int64_t C) override {
    cpu::embedding_backward(pool_, dtable.fp32(), dout.fp32(), token_ids, T, C);
  }

  void rms_norm_forward(TypedPointer out, ConstTypedPointer x, const float* weight, int64_t T, int64_t C,
                        float eps) override {
    cpu::rms_norm_forward(pool_, out.fp32(), x.fp32(), weight, T, C, eps);
  }
  void rms_norm_backward(TypedPointer dx, TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x,
                         const float* weight, int64_t T, int64_t C, float eps) override {
    cpu::rms_norm_backward(pool_, dx.fp32(), dweight.fp32(), dout.fp32(), x.fp32(), weight, T, C, eps);
  }

  void linear_forward(TypedPointer out, ConstTypedPointer x, const Weight& weight, const float* bias,
                      ConstTypedPointer residual, int64_t T) override {
    wideseek::linear_forward(pool_, out.fp32(), weight.rows, x.fp32(), weight.cols, packed(weight), bias,
                             residual.fp32(), weight.rows, T);
  }
  void linear_backward_input(TypedPointer dx, ConstTypedPointer dout, const Weight& weight, int64_t T) override {
    wideseek::linear_backward_input(pool_, dx.fp32(), weight.cols, dout.fp32(), weight.rows, packed(weight), T, false);
  }
  void linear_backward_weight(TypedPointer dweight, ConstTypedPointer dout, ConstTypedPointer x, int64_t T, int64_t N,
                              int64_t K) override {
    wideseek::linear_backward_weight(pool_, dweight.fp32(), dout.fp32(), N, x.fp32(), K, T, N, K);
  }
  void bias_backward(TypedPointer dbias, ConstTypedPointer dout, int64_t T, int64_t N) override {
    cpu::bias_backward(pool_, dbias.fp32(), dout.fp32(), T, N);
  }

  void qk_norm_rope_forward(TypedPointer out, ConstTypedPointer qkv, const float* q_norm, const float* k_norm,
                            const float* cos, const float* sin, const int32_t* positions, const AttentionShape& shape,
                            int64_t T, float eps) override {
    cpu::qk_norm_rope_forward(pool_, out.fp32(), qkv.fp32(), q_norm, k_norm, cos, sin, positions, shape, T, eps);
  }
  void qk_norm_rope_backward(TypedPointer dqkv, TypedPointer dq_norm, TypedPointer dk_norm, ConstTypedPointer qkv,
                             const float* q_norm, const float* k_norm, const float* cos, const float* sin,
                             const int32_t* positions, const AttentionShape& shape, int64_t T, float eps) override {
    cpu::qk_norm_rope_backward(pool_, dqkv.fp32(), dq_norm.fp32(), dk_norm.fp32(), qkv.fp32(), q_norm, k_norm, cos, sin,
                               positions, shape, T, eps);
  }
  std::unique_ptr<AttentionPlan> plan_attention(const AttentionShape& shape, const SequenceSlice* slices,
                                                int64_t num_slices, int64_t) override {
    return std::make_unique<CpuAttentionPlan>(SliceList{shape, slices, num_slices});
  }
  void kv_store(const KvBlocks& cache, ConstTypedPointer qkv, const AttentionPlan& plan) override {
    const auto& [shape, slices, num_slices] = cpu_plan(plan);
    const int64_t width = shape.qkv_size();
    wideseek::kv_store(pool_, cache, qkv.fp32() + key_offset(shape), width, qkv.fp32() + value_offset(shape), width,
                       shape, slices, num_slices);
  }
  void attention_forward(TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                         const AttentionPlan& plan) override {
    const auto& [shape, slices, num_slices] = cpu_plan(plan);
    wideseek::attention_forward(pool_, attention_, out.fp32(), key_offset(shape), lse, qkv.fp32(), shape.qkv_size(),
                                cache, shape, attention_scale(shape), slices, num_slices);
  }
  void attention_backward(TypedPointer dqkv, ConstTypedPointer dout, ConstTypedPointer out, const float* lse,
                          ConstTypedPointer qkv, const KvBlocks& cache, const KvBlocks& dcache,
                          const AttentionPlan& plan) override {
    const auto& [shape, slices, num_slices] = cpu_plan(plan);
    const int64_t width = shape.qkv_size();
    const int64_t head_columns = key_offset(shape);
    wideseek::attention_backward(pool_, attention_, dqkv.fp32(), width, dcache, dout.fp32(), head_columns, out.fp32(),
                                 head_columns, lse, qkv.fp32(), width, cache, shape, attention_scale(shape), slices,
                                 num_slices);
    kv_gather_gradient(pool_, dqkv.fp32() + key_offset(shape), width, dqkv.fp32() + value_offset(shape), width, dcache,
                       shape, slices, num_slices);
  }

  void swiglu_forward(TypedPointer out, ConstTypedPointer gate_up, int64_t T, int64_t F) override {
    cpu::swiglu_forward(pool_, out.fp32(), gate_up.fp32(), T, F);
  }
  void swiglu_backward(TypedPointer gate_up, ConstTypedPointer dout, int64_t T, int64_t F) override {
    cpu::swiglu_backward(pool_, gate_up.fp32(), dout.fp32(), T, F);
  }
  void expert_linear_forward(TypedPointer out, ConstTypedPointer x, const Weight* const* weights,
                             const int64_t* first_rows, int64_t E) override {
    expert_weights_.clear();
    for (int64_t e = 0; e < E; ++e) expert_weights_.push_back(&packed(*weights[e]));
    wideseek::expert_linear_forward(pool_, out.fp32(), x.fp32(), expert_weights_.data(), first_rows, E);
  }
  void combine_rows(TypedPointer out, ConstTypedPointer residual, ConstTypedPointer values, const int32_t* rows,
                    const float* shares, int64_t T, int64_t k, int64_t C) override {
    cpu::combine_rows(pool_, out.fp32(), residual.fp32(), values.fp32(), rows, shares, T, k, C);
  }
  void gather_rows(TypedPointer out, ConstTypedPointer x, const int32_t* rows, int64_t R, int64_t C) override {
    cpu::gather_rows(pool_, out.fp32(), x.fp32(), rows, R, C);
  }
  void scatter_rows(TypedPointer x, ConstTypedPointer values, const int32_t* rows, int64_t R, int64_t C) override {
    cpu::scatter_rows(pool_, x.fp32(), values.fp32(), rows, R, C);
  }

  void logprob_forward(float* logprobs, float* row_max, float* row_log_sum, float* row_entropy, const float* logits,
                       const Targets& targets, int64_t R, int64_t V, float temperature) override {
    cpu::logprob_forward(pool_, logprobs, row_max, row_log_sum, row_entropy, logits, targets, R, V, temperature);
  }
  void logprob_backward(TypedPointer dlogits, const float* logits, const float* dlogprobs, const float* row_max,
                        const float* row_log_sum, const Targets& targets, int64_t R, int64_t V,
                        float temperature) override {
    cpu::logprob_backward(pool_, dlogits.fp32(), logits, dlogprobs, row_max, row_log_sum, targets, R, V, temperature);
  }
  void token_loss(float* dlogprobs, LossStats* stats, const float* logprobs, const float* row_entropy,
                  const Targets& targets, const LossInputs& inputs, const LossSettings& settings) override {
    cpu::token_loss(dlogprobs, *stats, logprobs, row_entropy, targets, inputs, settings);
  }

  void sample(SampledToken* tokens, const float* logits, const SampleRequest* requests, int64_t R, int64_t V) override {
    cpu::sample(pool_, sampling_, tokens, logits, requests, R, V);
  }

  double sum_squares(ConstTypedPointer values, int64_t count) override {
    return cpu::sum_squares(pool_, values.fp32(), count);
  }
  void adamw_matrix(Weight& weight, const AdamWState& state, const AdamWStep& step) override {
    const int64_t rows_at_once = std::max<int64_t>(1, kOptimizerElements / weight.cols);
    if (state.master == nullptr) update_.resize(static_cast<size_t>(std::min(rows_at_once, weight.rows) * weight.cols));
    for (int64_t row = 0; row < weight.rows; row += rows_at_once) {
      const int64_t num_rows = std::min(rows_at_once, weight.rows - row);
      const AdamWState rows = state + row * weight.cols;
      float* master = state.master == nullptr ? update_.data() : rows.master;
      if (state.master == nullptr) load_weight(weight, row, num_rows, master);
      cpu::adamw_step(pool_, master, rows.gradients.fp32(), rows.first_moment, rows.second_moment,
                      num_rows * weight.cols, step);
      store_weight(weight, row, num_rows, master);
    }
  }
  void adamw_vector(float* weights, DType dtype, int64_t count, const AdamWState& state,
                    const AdamWStep& step) override {
    float* master = state.master == nullptr ? weights : state.master;
    cpu::adamw_step(pool_, master, state.gradients.fp32(), state.first_moment, state.second_moment, count, step);
    if (state.master != nullptr) store_vector(weights, master, count, dtype);
  }

 private:
  ThreadPool pool_;
  AttentionWorkspace attention_;
  std::vector<cpu::SampleWorkspace> sampling_;  // of each thread
  MemoryInfo memory_{};
  std::unordered_map<void*, int64_t> sizes_;
  std::vector<float> update_;  // weights while AdamW changes them
  std::vector<const PackedWeight*> expert_weights_;
};

}  // namespace

std::unique_ptr<Backend> create_cpu_backend(int num_threads) { return std::make_unique<CpuBackend>(num_threads); }

}  // namespace wideseek
