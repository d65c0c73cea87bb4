// What batch invariance costs: the matrix products of a step as training and generation have them, with sums in one
// order for every number of rows, against the algorithm that cuBLASLt thinks best for that number, sums in parts
// included.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/cuda_bench.h"
#include "cuda/gemm.h"

namespace wideseek::cuda {
namespace {

// One of the products of a linear layer, and how often a step has it.
struct LayerProduct {
  const char* layer;
  ProductKind kind;
  int64_t N, K, rows;
  double count;
};

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

}  // namespace

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

}  // namespace wideseek::cuda
