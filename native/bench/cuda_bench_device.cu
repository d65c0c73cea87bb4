// Speed of the CUDA kernels that memory bounds, at the sizes of Qwen3-4B and 32,768 tokens: one JSON object a line with
// microseconds, GB/s and the share of the copy bandwidth measured before. The bytes are those that a kernel has to
// move: every array once, but logits in the forward pass twice, since a row's sums need its maximum and a row fits in
// no cache. Attention, of one sequence of 16,384 tokens, with TFLOP/s instead, of the products under the diagonal; the
// backward pass counts as 2.5 times the forward pass. And what batch invariance costs: the matrix products of a step by
// one algorithm for every number of rows, against the one that cuBLASLt thinks best for that number, sums in parts
// included. Needs a GPU. Usage: cuda_bench [name filter]
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/adamw.h"
#include "cuda/attention.h"
#include "cuda/attention_forward.h"
#include "cuda/backend_cuda.h"
#include "cuda/embedding.h"
#include "cuda/gemm.h"
#include "cuda/gpu.h"
#include "cuda/logprob.h"
#include "cuda/qk_norm_rope.h"
#include "cuda/rms_norm.h"
#include "cuda/rows.h"
#include "cuda/swiglu.h"
#include "cuda/token_loss.h"

using namespace wideseek;
using namespace wideseek::cuda;

namespace {

constexpr int64_t T = 32768, C = 2560, F = 9728, H = 32, K = 8, D = 128, V = 151936;
constexpr int64_t kLogitRows = 1766;  // of a chunk of 2^28 logits
constexpr AttentionShape kShape{H, K, D};
constexpr float kEps = 1e-6f;

// Uniform in [-scale, scale].
template <typename E>
__global__ void fill_kernel(E* values, int64_t count, float scale) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    uint32_t state = static_cast<uint32_t>(i) * 747796405u + 2891336453u;
    state = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
    values[i] = from_float<E>(scale * static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f);
  }
}

// Device arrays that live as long as it does.
class Arrays {
 public:
  explicit Arrays(Gpu& gpu) : gpu_(gpu) {}
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;
  ~Arrays() {
    for (void* pointer : pointers_) gpu_.release(pointer);
  }
  float* fp32(int64_t count, float scale = 1) { return filled<float>(count, scale); }
  TypedPointer bf16(int64_t count, float scale = 1) { return {filled<BF16>(count, scale), DType::kBFloat16}; }
  int32_t* integers(const std::vector<int32_t>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(int32_t));
    auto* const array = static_cast<int32_t*>(raw(bytes));
    gpu_.upload(array, values.data(), bytes);
    return array;
  }
  void* raw(int64_t bytes) {
    void* const pointer = gpu_.allocate(bytes);
    WS_CHECK(pointer != nullptr, kOutOfMemory, "cuda_bench", std::to_string(bytes) + " bytes");
    pointers_.push_back(pointer);
    return pointer;
  }

 private:
  template <typename E>
  E* filled(int64_t count, float scale) {
    auto* const array = static_cast<E*>(raw(count * static_cast<int64_t>(sizeof(E))));
    launch(fill_kernel<E>, {1024, 256}, gpu_.stream(), array, count, scale);
    return array;
  }
  Gpu& gpu_;
  std::vector<void*> pointers_;
};

struct Times {
  double min, median;  // seconds
};

class Bench {
 public:
  Bench(Gpu& gpu, std::string filter) : gpu_(gpu), filter_(std::move(filter)) {
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  void measure_copy() {
    Arrays arrays(gpu_);
    constexpr int64_t kBytes = int64_t{1} << 30;
    void* const to = arrays.raw(kBytes);
    const void* const from = arrays.raw(kBytes);
    const Times times = time([&] { gpu_.copy(to, from, kBytes); });
    copy_bandwidth_ = 2.0 * kBytes / times.median;
    std::printf("{\"kernel\":\"copy\",\"us\":%.1f,\"gbps\":%.1f}\n", times.median * 1e6, copy_bandwidth_ * 1e-9);
  }

  void run_products(const char* name, int64_t head_dim, double flops, const std::function<void(Stream)>& kernel) {
    const Times times = time([&] { kernel(gpu_.stream()); });
    std::printf("{\"kernel\":\"%s\",\"dtype\":\"bf16\",\"head_dim\":%d,\"us\":%.1f,\"min_us\":%.1f,", name,
                static_cast<int>(head_dim), times.median * 1e6, times.min * 1e6);
    std::printf("\"tflops\":%.1f}\n", flops / times.median * 1e-12);
    std::fflush(stdout);
  }

  double median_seconds(const std::function<void()>& body) { return time(body).median; }

  bool wanted(const char* name) const { return std::string(name).find(filter_) != std::string::npos; }

  void run(const char* name, const char* dtype, int64_t bytes, const std::function<void(Stream)>& kernel) {
    const Times times = time([&] { kernel(gpu_.stream()); });
    const double bandwidth = static_cast<double>(bytes) / times.median;
    std::printf("{\"kernel\":\"%s\",\"dtype\":\"%s\",\"us\":%.1f,\"min_us\":%.1f,", name, dtype, times.median * 1e6,
                times.min * 1e6);
    std::printf("\"gbps\":%.1f,\"share_of_copy\":%.3f}\n", bandwidth * 1e-9, bandwidth / copy_bandwidth_);
    std::fflush(stdout);
  }

 private:
  Times time(const std::function<void()>& body) {
    constexpr int kWarmUps = 3, kRuns = 20;
    std::vector<double> seconds;
    for (int i = 0; i < kWarmUps + kRuns; ++i) {
      check(cudaEventRecord(begin_, gpu_.stream()), "cudaEventRecord");
      body();
      check(cudaEventRecord(end_, gpu_.stream()), "cudaEventRecord");
      gpu_.synchronize();
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
      if (i >= kWarmUps) seconds.push_back(milliseconds * 1e-3);
    }
    std::sort(seconds.begin(), seconds.end());
    return {seconds.front(), seconds[seconds.size() / 2]};
  }

  Gpu& gpu_;
  std::string filter_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  double copy_bandwidth_ = 0;
};

void bench_rms_norm(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  const TypedPointer out = arrays.bf16(T * C), x = arrays.bf16(T * C), dx = arrays.bf16(T * C);
  const TypedPointer dweight = arrays.fp32(C);
  const float* const weight = arrays.fp32(C);
  float* const scratch = arrays.fp32(rms_norm_backward_scratch(C));
  if (bench.wanted("rms_norm_forward")) {
    bench.run("rms_norm_forward", "bf16", T * C * 4,
              [&](Stream stream) { rms_norm_forward(stream, out, x, weight, T, C, kEps); });
  }
  if (bench.wanted("rms_norm_backward")) {
    bench.run("rms_norm_backward", "bf16", T * C * 8,
              [&](Stream stream) { rms_norm_backward(stream, dx, dweight, out, x, weight, T, C, kEps, scratch); });
  }
}

void bench_qk_norm_rope(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  const int64_t N = kShape.qkv_size(), rotated = (H + K) * D;
  const TypedPointer qkv = arrays.bf16(T * N), dqkv = arrays.bf16(T * N);
  const TypedPointer dq_norm = arrays.fp32(D), dk_norm = arrays.fp32(D);
  const float *const q_norm = arrays.fp32(D), *const k_norm = arrays.fp32(D);
  const float *const cos = arrays.fp32(T * D / 2), *const sin = arrays.fp32(T * D / 2);
  std::vector<int32_t> places(static_cast<size_t>(T));
  for (int64_t t = 0; t < T; ++t) places[t] = static_cast<int32_t>(t);
  const int32_t* const positions = arrays.integers(places);
  float* const scratch = arrays.fp32(qk_norm_rope_backward_scratch(kShape));
  if (bench.wanted("qk_norm_rope_forward")) {
    bench.run("qk_norm_rope_forward", "bf16", T * (N * 4 + D * 4), [&](Stream stream) {
      qk_norm_rope_forward(stream, dqkv, qkv, q_norm, k_norm, cos, sin, positions, kShape, T, kEps);
    });
  }
  if (bench.wanted("qk_norm_rope_backward")) {
    bench.run("qk_norm_rope_backward", "bf16", T * (rotated * 6 + D * 4), [&](Stream stream) {
      qk_norm_rope_backward(stream, dqkv, dq_norm, dk_norm, qkv, q_norm, k_norm, cos, sin, positions, kShape, T, kEps,
                            scratch);
    });
  }
}

void bench_swiglu(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  const TypedPointer gate_up = arrays.bf16(T * 2 * F), out = arrays.bf16(T * F);
  if (bench.wanted("swiglu_forward")) {
    bench.run("swiglu_forward", "bf16", T * F * 6, [&](Stream stream) { swiglu_forward(stream, out, gate_up, T, F); });
  }
  if (bench.wanted("swiglu_backward")) {
    bench.run("swiglu_backward", "bf16", T * F * 10,
              [&](Stream stream) { swiglu_backward(stream, gate_up, out, T, F); });
  }
}

// Every token of the batch another one: the most memory that the embedding's gradient can touch.
void bench_rows(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  const TypedPointer table = arrays.bf16(V * C), x = arrays.bf16(T * C), out = arrays.bf16(T * C);
  std::vector<int32_t> places(static_cast<size_t>(T)), tokens(static_cast<size_t>(T));
  for (int64_t t = 0; t < T; ++t) {
    places[t] = static_cast<int32_t>(T - 1 - t);
    tokens[t] = static_cast<int32_t>(t * 4099 % V);
  }
  const int32_t *const rows = arrays.integers(places), *const token_ids = arrays.integers(tokens);
  if (bench.wanted("embedding_forward")) {
    bench.run("embedding_forward", "bf16", T * C * 4,
              [&](Stream stream) { embedding_forward(stream, out, table, token_ids, T, C); });
  }
  if (bench.wanted("embedding_backward")) {
    float* const scratch = arrays.fp32(embedding_backward_scratch(T, C));
    bench.run("embedding_backward", "bf16", T * C * 6,
              [&](Stream stream) { embedding_backward(stream, table, x, token_ids, T, C, scratch); });
  }
  if (bench.wanted("gather_rows")) {
    bench.run("gather_rows", "bf16", T * C * 4, [&](Stream stream) { gather_rows(stream, out, x, rows, T, C); });
  }
  if (bench.wanted("scatter_rows")) {
    bench.run("scatter_rows", "bf16", T * C * 4, [&](Stream stream) { scatter_rows(stream, out, x, rows, T, C); });
  }
}

void bench_loss(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  constexpr int64_t R = kLogitRows;
  float* const logits = arrays.fp32(R * V, 4);
  const TypedPointer dlogits(arrays.raw(R * V * 2), DType::kBFloat16);
  std::vector<int32_t> rows, tokens;
  for (int64_t r = 0; r < R; ++r) {
    rows.push_back(static_cast<int32_t>(r));
    tokens.push_back(static_cast<int32_t>(r * 83 % V));
  }
  const Targets targets{R, arrays.integers(rows), arrays.integers(tokens)};
  float *const logprobs = arrays.fp32(R), *const dlogprobs = arrays.fp32(R), *const row_max = arrays.fp32(R),
               *const log_sums = arrays.fp32(R), *const entropies = arrays.fp32(R);
  float* const scratch = arrays.fp32(std::max(logprob_forward_scratch(R), logprob_backward_scratch(R)));
  const auto forward = [&](Stream stream) {
    logprob_forward(stream, logprobs, row_max, log_sums, entropies, logits, targets, R, V, 1, scratch);
  };
  forward(gpu.stream());
  if (bench.wanted("logprob_forward")) bench.run("logprob_forward", "fp32", R * V * 8, forward);
  if (bench.wanted("logprob_backward")) {
    bench.run("logprob_backward", "bf16", R * V * 6, [&](Stream stream) {
      logprob_backward(stream, dlogits, logits, dlogprobs, row_max, log_sums, targets, R, V, 1, scratch);
    });
  }
  if (bench.wanted("token_loss")) {
    auto* const stats = static_cast<LossStats*>(arrays.raw(sizeof(LossStats)));
    const LossInputs inputs{arrays.fp32(R), arrays.fp32(R), logprobs, logprobs};
    const LossSettings settings{LossKind::kGrpo, 1, 0.2f, 0.28f, 3, 0.1f};
    bench.run("token_loss", "fp32", R * 28, [&](Stream stream) {
      token_loss(stream, dlogprobs, stats, logprobs, entropies, targets, inputs, settings);
    });
  }
  if (bench.wanted("logprob_backward")) {  // last: it overwrites the logits
    bench.run("logprob_backward", "fp32", R * V * 8, [&](Stream stream) {
      logprob_backward(stream, logits, logits, dlogprobs, row_max, log_sums, targets, R, V, 1, scratch);
    });
  }
}

// The kernels that this GPU gets, and in the forward pass those for compute capability 8.0 beside them.
void bench_attention(Bench& bench, Gpu& gpu) {
  if (!bench.wanted("attention_forward") && !bench.wanted("attention_forward_8_0") &&
      !bench.wanted("attention_backward"))
    return;
  constexpr int64_t kRows = 16384;
  const auto backend = create_cuda_backend({DType::kBFloat16, 0, false});
  std::vector<int32_t> table;
  for (int32_t b = 0; b < kRows / kKvBlockTokens; ++b) table.push_back(b);
  const SequenceSlice slice{0, kRows, 0, table.data()};
  for (const AttentionShape& shape : {kShape, AttentionShape{14, 2, 64}}) {
    Arrays arrays(gpu);
    const auto plan = plan_attention(*backend, shape, &slice, 1);
    const CudaAttentionPlan& own = cuda_plan(*plan);
    const int64_t in_head = kRows * shape.head_dim;
    const TypedPointer qkv = arrays.bf16(kRows * shape.qkv_size()), dqkv = arrays.bf16(kRows * shape.qkv_size());
    const TypedPointer out = arrays.bf16(in_head * shape.num_heads), dout = arrays.bf16(in_head * shape.num_heads);
    const KvBlocks cache{arrays.bf16(in_head * shape.num_kv_heads), arrays.bf16(in_head * shape.num_kv_heads)};
    float* const lse = arrays.fp32(kRows * shape.num_heads);
    own.key_tiles();
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    kv_store(gpu.stream(), cache, qkv, *plan);
    const double flops = 2.0 * static_cast<double>(in_head * shape.num_heads) * (kRows + 1);
    if (bench.wanted("attention_forward_8_0")) {
      bench.run_products("attention_forward_8_0", shape.head_dim, flops,
                         [&](Stream stream) { tensor_attention_forward(stream, out, lse, qkv, cache, own); });
    }
    attention_forward(gpu.stream(), out, lse, qkv, cache, *plan);
    if (bench.wanted("attention_forward")) {
      bench.run_products("attention_forward", shape.head_dim, flops,
                         [&](Stream stream) { attention_forward(stream, out, lse, qkv, cache, *plan); });
    }
    if (bench.wanted("attention_backward")) {
      float* const scratch = arrays.fp32(attention_backward_scratch(*plan));
      bench.run_products("attention_backward", shape.head_dim, 2.5 * flops, [&](Stream stream) {
        attention_backward(stream, dqkv, dout, out, lse, qkv, cache, cache, *plan, scratch);
      });
    }
  }
}

// One of the products of a linear layer, and how often a step has it.
struct LayerProduct {
  const char* layer;
  ProductKind kind;
  int64_t N, K, rows;
  double count;
};

constexpr int64_t kLayers = 36;
struct LinearLayer {
  const char* name;
  int64_t N, K;
};
constexpr LinearLayer kLinearLayers[] = {
    {"qkv", (H + 2 * K) * D, C}, {"attention_out", C, H* D}, {"gate_up", 2 * F, C}, {"down", C, F}};

// Of one step of generation with `rows` sequences.
std::vector<LayerProduct> generation_products(int64_t rows) {
  std::vector<LayerProduct> products;
  for (const auto& [name, N, inner] : kLinearLayers) {
    products.push_back({name, ProductKind::kForward, N, inner, rows, kLayers});
  }
  products.push_back({"lm_head", ProductKind::kForward, V, C, rows, 1});
  return products;
}

// Of one step of training with `rows` tokens; the LM head takes them in chunks.
std::vector<LayerProduct> training_products(int64_t rows) {
  std::vector<LayerProduct> products;
  for (const auto kind : {ProductKind::kForward, ProductKind::kBackwardInput, ProductKind::kBackwardWeight}) {
    for (const auto& [name, N, inner] : kLinearLayers) products.push_back({name, kind, N, inner, rows, kLayers});
    const double chunks = static_cast<double>(rows) / static_cast<double>(kLogitRows);
    products.push_back({"lm_head", kind, V, C, kLogitRows, chunks});
  }
  return products;
}

constexpr const char* kKindNames[] = {"forward", "backward input", "backward weight"};

void bench_invariance(Bench& bench, Gpu& gpu) {
  if (!bench.wanted("invariance")) return;
  constexpr int64_t kMostRows = 8192;
  Arrays arrays(gpu);
  Gemm fixed(arrays.raw(Gemm::kWorkspaceBytes)), free(arrays.raw(Gemm::kWorkspaceBytes), AlgorithmChoice::kBestForRows);
  // As large as each factor of any product, and the gradients of weights in fp32.
  const int64_t most = std::max(V * C, std::max(kMostRows * 2 * F, kLogitRows * V));
  const TypedPointer left = arrays.bf16(most, 0.1f), right = arrays.bf16(most, 0.1f);
  void* const out = arrays.raw(most * 4);
  const auto measure = [&](const char* name, const std::vector<LayerProduct>& products) {
    double sum_fixed = 0, sum_free = 0, worst = -1;
    std::string worst_name;
    for (const LayerProduct& each : products) {
      const bool is_weight = each.kind == ProductKind::kBackwardWeight;
      const Product product{
          each.kind, {out, is_weight ? DType::kFloat32 : DType::kBFloat16}, left, right, {}, each.rows, each.N, each.K};
      const double of_fixed = bench.median_seconds([&] { fixed.multiply(gpu.stream(), product); });
      const double of_free = bench.median_seconds([&] { free.multiply(gpu.stream(), product); });
      sum_fixed += of_fixed * each.count;
      sum_free += of_free * each.count;
      if (const double cost = 1 - of_free / of_fixed; cost > worst) {
        worst = cost;
        worst_name = std::string(each.layer) + " " + kKindNames[static_cast<int>(each.kind)];
      }
    }
    std::printf(
        "{\"invariance\":\"%s\",\"us\":%.1f,\"free_us\":%.1f,\"cost\":%.4f,\"worst\":\"%s\",\"worst_cost\":%.4f}\n",
        name, sum_fixed * 1e6, sum_free * 1e6, 1 - sum_free / sum_fixed, worst_name.c_str(), worst);
    std::fflush(stdout);
  };
  measure("train8k", training_products(kMostRows));
  measure("decode1", generation_products(1));
  measure("decode64", generation_products(64));
  measure("decode256", generation_products(256));
}

// The token embedding, the largest matrix.
void bench_optimizer(Bench& bench, Gpu& gpu) {
  Arrays arrays(gpu);
  constexpr int64_t kCount = V * C;
  const TypedPointer weights = arrays.bf16(kCount);
  const AdamWState half{arrays.fp32(kCount), arrays.bf16(kCount), arrays.fp32(kCount, 0), arrays.fp32(kCount, 0)};
  AdamWState full = half;
  full.gradients = arrays.fp32(kCount);
  const AdamWStep step{1e-6, 0.9, 0.95, 1e-8, 0.1, 1.0, 10};
  auto* const sum = static_cast<double*>(arrays.raw(sizeof(double)));
  float* const scratch = arrays.fp32(sum_squares_scratch());
  for (const AdamWState& state : {half, full}) {
    const bool is_half = state.gradients.dtype == DType::kBFloat16;
    const char* const dtype = is_half ? "bf16" : "fp32";
    const int64_t gradient_bytes = is_half ? 2 : 4;
    if (bench.wanted("sum_squares")) {
      bench.run("sum_squares", dtype, kCount * gradient_bytes,
                [&](Stream stream) { sum_squares(stream, sum, state.gradients, kCount, scratch); });
    }
    if (bench.wanted("adamw")) {
      bench.run("adamw", dtype, kCount * (24 + 2 + 2 * gradient_bytes),
                [&](Stream stream) { adamw_matrix(stream, weights, kCount, state, step); });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Gpu gpu(0);
    Bench bench(gpu, argc > 1 ? argv[1] : "");
    bench.measure_copy();
    for (const auto& group : {bench_rms_norm, bench_qk_norm_rope, bench_swiglu, bench_rows, bench_loss, bench_attention,
                              bench_optimizer, bench_invariance}) {
      group(bench, gpu);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
