// Speed of the CPU kernels: one JSON object a line with GFLOP/s, its share of the measured fma peak of the same
// threads, and GB/s of weights read. Best of several runs, since the machine may be shared. Usage: kernel_bench
// [threads, default all] [name filter]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "cpu/attention.h"
#include "cpu/gemm.h"
#include "cpu/gemm_table.h"
#include "cpu/isa.h"
#include "cpu/threads.h"

using namespace wideseek;

namespace {

// With one thread its CPU time, which other processes do not disturb; else wall time.
bool use_cpu_time = false;

double now() {
  timespec time;
  clock_gettime(use_cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(const std::function<void()>& body) {
  const double start = now();
  body();
  return now() - start;
}

// Shortest of the runs that fit in the time.
double best_seconds(const std::function<void()>& body, double budget = 0.1) {
  body();
  double best = 1e9, spent = 0;
  while (spent < budget) {
    const double once = seconds_of(body);
    best = std::min(best, once);
    spent += once;
  }
  return best;
}

std::vector<float> values(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return x;
}

struct Bench {
  ThreadPool& pool;
  std::string filter;
  double peak = 0;

  bool wanted(const std::string& name) const { return name.find(filter) != std::string::npos; }
  void report(const std::string& name, const std::string& shape, double flops, double bytes, double seconds) const {
    std::printf("{\"kernel\":\"%s\",%s,\"us\":%.1f,\"gflops\":%.1f,\"share_of_peak\":%.3f,\"gbps\":%.1f}\n",
                name.c_str(), shape.c_str(), seconds * 1e6, flops / seconds * 1e-9, flops / seconds * 1e-9 / peak,
                bytes / seconds * 1e-9);
    std::fflush(stdout);
  }
};

std::string field(const char* name, int64_t value) {
  std::string text = "\"";
  text.append(name).append("\":").append(std::to_string(value));
  return text;
}

// The inner product loop on operands that stay in L1, on all threads at once: the practical peak.
double measured_peak(ThreadPool& pool) {
  constexpr int64_t kRows = 24, kDepth = 64;
  double best = 0;
  const std::vector<float> w = values(64 * kDepth), x = values(kRows * kDepth);
  for (int i = 0; i < 200; ++i) {
    const double seconds = seconds_of([&] {
      pool.parallel_for(pool.size(), 1, [&](int64_t, int64_t, int) {
        alignas(64) float out[kRows * 64];
        for (int repeat = 0; repeat < 500; ++repeat) {
          gemm_kernels().block(x.data(), kDepth, w.data(), out, 64, kRows, kDepth, false);
        }
      });
    });
    best = std::max(best, 500.0 * pool.size() * 2 * kRows * kDepth * 64 / seconds * 1e-9);
  }
  return best;
}

void bench_linear(Bench& bench) {
  struct Shape {
    int64_t N, K;
  };
  for (const Shape s : {Shape{128, 128}, {640, 384}, {2048, 384}, {384, 1024}, {8192, 384}, {1024, 1024}}) {
    const std::vector<float> w = values(s.N * s.K);
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      PackedWeight weight(s.N, s.K, dtype);
      weight.store_rows(bench.pool, 0, s.N, w.data());
      for (int64_t M : {1, 8, 32, 128, 1024}) {
        std::vector<float> x = values(M * s.K), out = values(M * s.N), dx(x.size()), dw(w.size());
        const std::string shape = field("M", M) + "," + field("N", s.N) + "," + field("K", s.K) + ",\"weights\":\"" +
                                  (dtype == DType::kFloat32 ? "fp32" : "bf16") + "\"";
        const double flops = 2.0 * static_cast<double>(M * s.N * s.K), bytes = static_cast<double>(weight.bytes());
        if (bench.wanted("linear_forward")) {
          bench.report("linear_forward", shape, flops, bytes, best_seconds([&] {
                         linear_forward(bench.pool, out.data(), s.N, x.data(), s.K, weight, nullptr, nullptr, 0, M);
                       }));
        }
        if (M < 128) continue;
        if (bench.wanted("linear_backward_input")) {
          bench.report("linear_backward_input", shape, flops, bytes, best_seconds([&] {
                         linear_backward_input(bench.pool, dx.data(), s.K, out.data(), s.N, weight, M, false);
                       }));
        }
        if (dtype == DType::kFloat32 && bench.wanted("linear_backward_weight")) {
          bench.report("linear_backward_weight", shape, flops, bytes, best_seconds([&] {
                         linear_backward_weight(bench.pool, dw.data(), out.data(), s.N, x.data(), s.K, M, s.N, s.K);
                       }));
        }
      }
    }
  }
}

// bench-30m's heads: 6 query heads, 2 kv heads, 64 wide.
constexpr AttentionShape kShape{6, 2, 64};

// `num_slices` sequences, each with `num_rows` new tokens that end at `context`.
void bench_attention_case(Bench& bench, const std::string& name, int64_t num_slices, int64_t num_rows, int64_t context,
                          bool backward) {
  if (!bench.wanted(name)) return;
  const int64_t H = kShape.num_heads, K = kShape.num_kv_heads, D = kShape.head_dim, ld = kShape.qkv_size();
  const int64_t blocks_each = (context + 15) / 16, num_blocks = blocks_each * num_slices, T = num_slices * num_rows;
  std::vector<float> keys = values(num_blocks * 16 * K * D), block_values = keys, dkeys = keys, dvalues = keys;
  std::vector<float> qkv = values(T * ld), out(static_cast<size_t>(T * H * D)), lse(static_cast<size_t>(T * H)),
                     dout = values(T * H * D), dqkv(qkv.size());
  const KvBlocks cache{keys.data(), block_values.data()}, dcache{dkeys.data(), dvalues.data()};
  std::vector<int32_t> tables(static_cast<size_t>(num_blocks));
  for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<int32_t>(i);
  std::vector<SequenceSlice> slices;
  for (int64_t s = 0; s < num_slices; ++s)
    slices.push_back({s * num_rows, num_rows, context - num_rows, tables.data() + s * blocks_each});
  AttentionWorkspace workspace;
  const auto forward = [&] {
    attention_forward(bench.pool, workspace, out.data(), H * D, lse.data(), qkv.data(), ld, cache, kShape, 0.125f,
                      slices.data(), num_slices);
  };
  forward();
  // Pairs of query and visible key: two products of 2 D each forward, five backward.
  const double pairs = static_cast<double>(H * num_slices * num_rows) *
                       (static_cast<double>(context) - static_cast<double>(num_rows - 1) / 2);
  const double bytes = 8.0 * static_cast<double>(num_slices * context * K * D);
  const double seconds = backward ? best_seconds([&] {
    attention_backward(bench.pool, workspace, dqkv.data(), ld, dcache, dout.data(), H * D, out.data(), H * D,
                       lse.data(), qkv.data(), ld, cache, kShape, 0.125f, slices.data(), num_slices);
  })
                                  : best_seconds(forward);
  const std::string shape =
      field("sequences", num_slices) + "," + field("new_tokens", num_rows) + "," + field("context", context);
  bench.report(name, shape, pairs * 2 * static_cast<double>(D) * (backward ? 5 : 2), bytes, seconds);
}

void bench_attention(Bench& bench) {
  for (int64_t context : {256, 1024, 4096}) {
    bench_attention_case(bench, "attention_forward", std::max<int64_t>(1, 2048 / context), context, context, false);
    bench_attention_case(bench, "attention_backward", std::max<int64_t>(1, 2048 / context), context, context, true);
  }
  for (int64_t sequences : {1, 8, 64}) {
    for (int64_t context : {256, 2048}) bench_attention_case(bench, "attention_decode", sequences, 1, context, false);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 0);
  use_cpu_time = pool.size() == 1;
  Bench bench{pool, argc > 2 ? argv[2] : ""};
  bench.peak = measured_peak(pool);
  std::printf("{\"isa\":\"%s\",\"threads\":%d,\"peak_gflops\":%.1f}\n", isa_name(cpu_isa()), pool.size(), bench.peak);
  bench_linear(bench);
  bench_attention(bench);
  return 0;
}
