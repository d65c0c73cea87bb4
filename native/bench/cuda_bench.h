// What the programs in this folder that need a GPU share: device arrays, timing and the sizes of Qwen3-4B.
#pragma once

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/typed_pointer.h"
#include "cuda/gpu.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

constexpr int64_t T = 32768, C = 2560, F = 9728, H = 32, K = 8, D = 128, V = 151936;
constexpr int64_t kLogitRows = 1766;  // of a chunk of 2^28 logits

constexpr int64_t kLayers = 36;
struct LinearLayer {
  const char* name;
  int64_t N, K;
};
constexpr LinearLayer kLinearLayers[] = {
    {"qkv", (H + 2 * K) * D, C}, {"attention_out", C, (H * D)}, {"gate_up", 2 * F, C}, {"down", C, F}};

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

  double copy_bandwidth() const { return copy_bandwidth_; }
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

// cuda_invariance_device.cu
void bench_invariance(Bench& bench, Gpu& gpu);
// cuda_products_device.cu
void bench_products(Bench& bench, Gpu& gpu);

}  // namespace wideseek::cuda
