// Forward products of Qwen3-4B's linear layers by our own kernels, beside cuBLASLt with one algorithm for all numbers
// of rows and with the best one for each; and whether all tiles and all numbers of rows give a row the same bits.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/cuda_bench.h"
#include "cuda/gemm.h"
#include "cuda/hopper.h"
#include "cuda/product.h"

namespace wideseek::cuda {
namespace {

constexpr int64_t kMostRows = 8192, kMostRowsOfLogits = kLogitRows;
constexpr LinearLayer kLmHead{"lm_head", V, C};

// What the products read and write.
struct Factors {
  TypedPointer x, weights, out;
};

// Several products a recording, as in a step of decoding, each with other weights: those of the last must not be in L2.
double seconds_of(Bench& bench, Gpu& gpu, Gemm& gemm, const Factors& factors, const LinearLayer& layer, int64_t rows) {
  const int64_t size = layer.N * layer.K, others = std::clamp<int64_t>(V * C / size, 1, 16);
  const int64_t products = rows >= 1024 ? 1 : others;
  const auto multiply = [&] {
    for (int64_t i = 0; i < products; ++i) {
      gemm.multiply(
          gpu.stream(),
          {ProductKind::kForward, factors.out, factors.x, factors.weights + i * size, {}, rows, layer.N, layer.K});
    }
  };
  multiply();  // chooses algorithms
  gpu.begin_recording();
  multiply();
  const Recording recording = gpu.end_recording();
  return bench.median_seconds([&] { gpu.run(recording); }) / static_cast<double>(products);
}

struct Sums {
  double own = 0, fixed = 0, free = 0, bytes = 0, flops = 0;
};

void measure_speed(Bench& bench, Gpu& gpu, const Factors& factors, Arrays& arrays) {
  void* const workspace = arrays.raw(Gemm::kWorkspaceBytes);
  Gemm own(workspace, AlgorithmChoice::kOwnKernels), fixed(workspace, AlgorithmChoice::kOneForAllRows),
      free(workspace, AlgorithmChoice::kBestForRows);
  for (const int64_t rows : {1, 8, 64, 256, 2048, 8192}) {
    Sums all;
    const auto measure = [&](const LinearLayer& layer, double count) {
      Factors used = factors;
      used.out.dtype = layer.N == V ? DType::kFloat32 : DType::kBFloat16;
      const double of_own = seconds_of(bench, gpu, own, used, layer, rows);
      const double of_fixed = seconds_of(bench, gpu, fixed, used, layer, rows);
      const double of_free = seconds_of(bench, gpu, free, used, layer, rows);
      const auto outputs = static_cast<double>(rows * layer.N * dtype_bytes(used.out.dtype));
      const double bytes = 2.0 * static_cast<double>(layer.N * layer.K + rows * layer.K) + outputs;
      const double flops = 2.0 * static_cast<double>(rows * layer.N * layer.K);
      std::printf("{\"product\":\"%s\",\"rows\":%d,\"us\":%.2f,\"cublaslt_us\":%.2f,\"cublaslt_best_us\":%.2f,",
                  layer.name, static_cast<int>(rows), of_own * 1e6, of_fixed * 1e6, of_free * 1e6);
      std::printf("\"gbps\":%.1f,\"share_of_copy\":%.3f,\"tflops\":%.1f}\n", bytes / of_own * 1e-9,
                  bytes / of_own / bench.copy_bandwidth(), flops / of_own * 1e-12);
      all.own += of_own * count;
      all.fixed += of_fixed * count;
      all.free += of_free * count;
      all.bytes += bytes * count;
      all.flops += flops * count;
    };
    for (const LinearLayer& layer : kLinearLayers) measure(layer, kLayers);
    if (rows <= kMostRowsOfLogits) measure(kLmHead, 1);
    std::printf("{\"products\":\"4b\",\"rows\":%d,\"us\":%.1f,\"cublaslt_us\":%.1f,\"cublaslt_best_us\":%.1f,",
                static_cast<int>(rows), all.own * 1e6, all.fixed * 1e6, all.free * 1e6);
    std::printf("\"share_of_copy\":%.3f,\"tflops\":%.1f}\n", all.bytes / all.own / bench.copy_bandwidth(),
                all.flops / all.own * 1e-12);
    std::fflush(stdout);
  }
}

// The first `count` bytes of a result.
std::vector<std::byte> result_of(Gpu& gpu, const Factors& factors, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count));
  gpu.download(bytes.data(), factors.out.data, count);
  return bytes;
}

// Every tile of every number of rows against one tile of all rows: its rows are the first ones of those.
void compare_bits(Gpu& gpu, const Factors& factors, Arrays& arrays) {
  void* const scratch = arrays.raw(Gemm::kWorkspaceBytes);
  int64_t tiles = 0, unequal = 0;
  std::string worst;
  // Beside the layers of 4B one with four chunks, one with three, and one whose sizes no tile divides.
  std::vector<LinearLayer> layers(std::begin(kLinearLayers), std::end(kLinearLayers));
  layers.insert(layers.end(), {{"four chunks", 1024, 3072}, {"three chunks", 1536, 2048}, {"odd sizes", 2504, 4168}});
  for (const LinearLayer& layer : layers) {
    constexpr int64_t kRows = 300;
    const auto multiply = [&](int64_t rows, const ProductTile* tile) {
      const int64_t bytes = rows * layer.N * dtype_bytes(factors.out.dtype);
      gpu.zero(factors.out.data, bytes);
      multiply_forward(gpu.stream(),
                       {ProductKind::kForward, factors.out, factors.x, factors.weights, {}, rows, layer.N, layer.K},
                       scratch, tile);
      return result_of(gpu, factors, bytes);
    };
    const std::vector<std::byte> all = multiply(kRows, nullptr);
    for (const int64_t rows :
         {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{9}, int64_t{64}, int64_t{65}, int64_t{130}, kRows}) {
      for (const ProductTile& tile : possible_tiles({rows, layer.N, layer.K}, Gemm::kWorkspaceBytes)) {
        const std::vector<std::byte> got = multiply(rows, &tile);
        ++tiles;
        if (std::memcmp(got.data(), all.data(), got.size()) == 0) continue;
        ++unequal;
        worst = std::string(layer.name) + ", " + std::to_string(rows) + " rows, " + std::to_string(tile.features) +
                " features, " + std::to_string(tile.groups) + " groups, schedule " +
                std::to_string(static_cast<int>(tile.schedule));
      }
    }
  }
  std::printf("{\"product_bits\":\"4b\",\"tiles\":%d,\"unequal\":%d,\"last_unequal\":\"%s\"}\n",
              static_cast<int>(tiles), static_cast<int>(unequal), worst.c_str());
  std::fflush(stdout);
}

}  // namespace

void bench_products(Bench& bench, Gpu& gpu) {
  if (!bench.wanted("products") || !device_has_wgmma()) return;
  Arrays arrays(gpu);
  const Factors factors{
      arrays.bf16(kMostRows * F, 0.5f), arrays.bf16(V * C, 0.5f),
      TypedPointer(arrays.raw(std::max(kMostRows * 2 * F * 2, kMostRowsOfLogits * V * 4)), DType::kBFloat16)};
  compare_bits(gpu, factors, arrays);
  measure_speed(bench, gpu, factors, arrays);
}

}  // namespace wideseek::cuda
