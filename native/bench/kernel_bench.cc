// Speed of the CPU kernels: one JSON object a line with GFLOP/s, its share of the measured fma peak of the same threads,
// and GB/s of weights read. Best of several runs, since the machine may be shared.
// Usage: kernel_bench [threads, default all] [name filter]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/threads.h"

using namespace wideseek;

namespace {

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Shortest of the runs that fit in the time.
double best_seconds(const std::function<void()>& body, double budget = 0.3) {
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
    std::printf("{\"kernel\":\"%s\",%s,\"us\":%.1f,\"gflops\":%.1f,\"share_of_peak\":%.3f,\"gbps\":%.1f}\n", name.c_str(), shape.c_str(),
                seconds * 1e6, flops / seconds * 1e-9, flops / seconds * 1e-9 / peak, bytes / seconds * 1e-9);
    std::fflush(stdout);
  }
};

std::string field(const char* name, int64_t value) { return "\"" + std::string(name) + "\":" + std::to_string(value); }

// A product whose operands stay in L1 and registers: the practical peak.
double measured_peak(ThreadPool& pool) {
  constexpr int64_t kRows = 6 * 32, kDepth = 64;
  double best = 0;
  ThreadPool one(1);
  const auto body = [&](int64_t, int64_t, int) {
    ThreadPool inline_pool(1);
    PackedWeight weight(64, kDepth, DType::kFloat32);
    std::vector<float> x = values(kRows * kDepth), out(static_cast<size_t>(kRows * 64));
    for (int i = 0; i < 2000; ++i) linear_forward(inline_pool, out.data(), 64, x.data(), kDepth, weight, nullptr, nullptr, 0, kRows);
  };
  for (int i = 0; i < 10; ++i) {
    const double seconds = seconds_of([&] { pool.parallel_for(pool.size(), 1, body); });
    best = std::max(best, 2000.0 * pool.size() * 2 * kRows * kDepth * 64 / seconds * 1e-9);
  }
  return best;
}

void bench_linear(Bench& bench) {
  struct Shape {
    int64_t N, K;
  };
  for (const Shape s : {Shape{128, 128}, {640, 384}, {384, 384}, {2048, 384}, {384, 1024}, {8192, 384}, {1024, 1024}}) {
    const std::vector<float> w = values(s.N * s.K);
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      PackedWeight weight(s.N, s.K, dtype);
      weight.store_rows(bench.pool, 0, s.N, w.data());
      for (int64_t M : {1, 4, 8, 32, 128, 1024}) {
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

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 0);
  Bench bench{pool, argc > 2 ? argv[2] : ""};
  bench.peak = measured_peak(pool);
  std::printf("{\"isa\":\"%s\",\"threads\":%d,\"peak_gflops\":%.1f}\n", isa_name(cpu_isa()), pool.size(), bench.peak);
  bench_linear(bench);
  return 0;
}
