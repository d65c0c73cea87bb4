// Speed of the CUDA kernels that memory bounds, at the sizes of Qwen3-4B and 32,768 tokens: one JSON object a line with
// microseconds, GB/s and the share of the copy bandwidth measured before. The bytes are those that a kernel has to
// move: every array once, but logits in the forward pass twice, since a row's sums need its maximum and a row fits in
// no cache. Attention, of one sequence of 16,384 tokens, with TFLOP/s instead, of the products under the diagonal; the
// backward pass counts as 2.5 times the forward pass. And linear layers (cuda_products_device.cu), and what batch
// invariance costs (cuda_invariance_device.cu).
// Needs a GPU. Usage: cuda_bench [name filter]
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda_bench.h"
#include "cuda/adamw.h"
#include "cuda/attention.h"
#include "cuda/attention_forward.h"
#include "cuda/backend_cuda.h"
#include "cuda/embedding.h"
#include "cuda/logprob.h"
#include "cuda/qk_norm_rope.h"
#include "cuda/rms_norm.h"
#include "cuda/rows.h"
#include "cuda/swiglu.h"
#include "cuda/token_loss.h"

using namespace wideseek;
using namespace wideseek::cuda;

namespace {

constexpr AttentionShape kShape{H, K, D};
constexpr float kEps = 1e-6f;

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
    const auto plan = plan_attention(*backend, shape, &slice, 1, 0, nullptr, Splitting::kNever);
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
                         [&](Stream stream) { tensor_attention_forward(stream, out, lse, qkv, cache, own, nullptr); });
    }
    float* const forward_scratch = arrays.fp32(attention_forward_scratch(DType::kBFloat16, *plan));
    attention_forward(gpu.stream(), out, lse, qkv, cache, *plan, forward_scratch);
    if (bench.wanted("attention_forward")) {
      bench.run_products("attention_forward", shape.head_dim, flops, [&](Stream stream) {
        attention_forward(stream, out, lse, qkv, cache, *plan, forward_scratch);
      });
    }
    if (bench.wanted("attention_backward")) {
      float* const scratch = arrays.fp32(attention_backward_scratch(*plan));
      bench.run_products("attention_backward", shape.head_dim, 2.5 * flops, [&](Stream stream) {
        attention_backward(stream, dqkv, dout, out, lse, qkv, cache, cache, *plan, scratch);
      });
    }
  }
}

// One new token of every sequence, in groups that have `shared` tokens in common. The bytes are keys and values, those
// that a group has in common once.
void bench_decode(Bench& bench, Gpu& gpu) {
  struct Case {
    const char* name;
    int64_t sequences, length, group, shared;
  };
  const auto backend = create_cuda_backend({DType::kBFloat16, 0, false});
  for (const Case& a : {Case{"decode_1x2k", 1, 2048, 1, 0},
                        {"decode_1x30k", 1, 30720, 1, 0},
                        {"decode_64x2k", 64, 2048, 1, 0},
                        {"decode_64x30k", 64, 30720, 1, 0},
                        {"decode_256x2k", 256, 2048, 1, 0},
                        {"decode_256x30k", 256, 30720, 1, 0},
                        {"decode_64x6k_8_share_4k", 64, 6144, 8, 4096},
                        {"decode_256x30k_32_share_28k", 256, 30720, 32, 28672}}) {
    if (!bench.wanted(a.name)) continue;
    Arrays arrays(gpu);
    const AttentionShape shape = kShape;
    int32_t num_blocks = 0;
    std::vector<std::vector<int32_t>> tables(static_cast<size_t>(a.sequences));
    std::vector<SequenceSlice> slices;
    for (int64_t s = 0; s < a.sequences; ++s) {
      std::vector<int32_t>& table = tables[static_cast<size_t>(s)];
      const std::vector<int32_t>& first = tables[static_cast<size_t>(s - s % a.group)];
      for (int64_t b = 0; b < a.length / kKvBlockTokens; ++b) {
        const bool is_shared = s % a.group > 0 && b < a.shared / kKvBlockTokens;
        table.push_back(is_shared ? first[static_cast<size_t>(b)] : num_blocks++);
      }
      slices.push_back({s, 1, a.length - 1, table.data()});
    }
    const int64_t in_cache = int64_t{num_blocks} * kKvBlockTokens * shape.num_kv_heads * shape.head_dim;
    const KvBlocks cache{arrays.bf16(in_cache), arrays.bf16(in_cache)};
    const TypedPointer qkv = arrays.bf16(a.sequences * shape.qkv_size()),
                       out = arrays.bf16(a.sequences * shape.num_heads * shape.head_dim);
    for (const Splitting splitting : {Splitting::kAsNeeded, Splitting::kNever}) {
      const auto plan = plan_attention(*backend, shape, slices.data(), a.sequences, 0, nullptr, splitting);
      float* const scratch = arrays.fp32(attention_forward_scratch(DType::kBFloat16, *plan));
      check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      bench.run(a.name, splitting == Splitting::kNever ? "bf16, not split" : "bf16", 4 * in_cache,
                [&](Stream stream) { attention_forward(stream, out, nullptr, qkv, cache, *plan, scratch); });
    }
  }
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
                              bench_decode, bench_optimizer, bench_products, bench_invariance}) {
      group(bench, gpu);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
