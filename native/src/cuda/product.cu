// Forward products: what kernels are told, and which one is launched.
#include "cuda/product.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "cuda/product_kernels.h"

namespace wideseek::cuda {
namespace {

constexpr const char* kOp = "gemm";
// A block could have 227 KiB; what is left of the multiprocessor lets small kernels begin beside it.
constexpr int64_t kSharedBytes = 225 * 1024;

int num_multiprocessors() {
#if defined(WIDESEEK_CUDA_EMULATION)
  return 3;  // few, so that blocks have several units
#else
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
#endif
}

// As 12030 for CUDA 12.3.
[[maybe_unused]] int driver_version() {
#if defined(WIDESEEK_CUDA_EMULATION)
  return 13000;
#else
  static const int driver = [] {
    int version = 0;
    check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
    return version;
  }();
  return driver;
#endif
}

void require_aligned(const void* pointer, const char* what) {
  WS_CHECK(is_aligned(pointer, 16), kInvalidArgument, kOp, std::string(what) + " is not aligned to 16 bytes");
}

int64_t fixed_bytes(const ProductTile& tile, int rings) {
  return ProductRing<8>::bytes_read_beyond(tile.loaded_rows) + rings * int64_t{ProductRing<8>::kBarrierBytes};
}
int64_t stage_bytes(const ProductTile& tile) { return int64_t{kSliceBytes} * (tile.features + tile.loaded_rows); }

// What is the same for all tiles and layers.
ProductCall call_of(TypedPointer out, ConstTypedPointer x, int64_t M, int64_t N, int64_t K, const ProductTile& tile) {
  WS_CHECK(M < int64_t{1} << 30, kUnsupported, kOp, std::to_string(M) + " rows at once are too many");
  require_aligned(out.data, "the result");
  require_aligned(x.data, "the left factor");
  ProductCall call{};
  call.x = make_tensor_map(x.data, M, K, tile.loaded_rows);
  call.out = out.data;
  call.M = static_cast<int>(M);
  call.N = static_cast<int>(N);
  call.slices = static_cast<int>(ceil_div<int64_t>(K, kSliceDepth));
  call.chunks = num_chunks(N, K);
  call.parts = tile.schedule == ChunkSchedule::kOne ? call.chunks : 1;
  call.row_tiles = static_cast<int>(ceil_div<int64_t>(M, tile.groups * kProductRows));
  call.feature_tiles = static_cast<int>(ceil_div<int64_t>(N, tile.features));
  call.loaded_rows = tile.loaded_rows;
  call.is_fp32 = out.dtype == DType::kFloat32;
  return call;
}

int num_blocks(const ProductCall& call, int multiprocessors) {
  const int64_t units = int64_t{call.row_tiles} * call.feature_tiles * call.parts;
  WS_CHECK(units < int64_t{1} << 30, kUnsupported, kOp, std::to_string(call.M) + " rows at once are too many");
  return static_cast<int>(std::min<int64_t>(units, multiprocessors));
}

}  // namespace

int num_stages(const ProductTile& tile, int rings, int64_t other_bytes) {
  const int64_t room = (kSharedBytes - fixed_bytes(tile, rings) - other_bytes) / (rings * stage_bytes(tile));
  return static_cast<int>(std::min<int64_t>(room, kMaxProductStages));
}

int64_t shared_bytes_of(const ProductTile& tile, int stages, int rings, int64_t other_bytes) {
  return rings * stages * stage_bytes(tile) + fixed_bytes(tile, rings) + other_bytes;
}

void multiply_forward(Stream stream, const Product& product, void* scratch, const ProductTile* wanted) {
  const auto& [kind, out, left, right, add, M, N, K] = product;
  const int multiprocessors = num_multiprocessors();
  const ProductTile tile = wanted != nullptr ? *wanted : choose_tile({M, N, K}, Gemm::kWorkspaceBytes, multiprocessors);
  ProductCall call = call_of(out, left, M, N, K, tile);
  require_aligned(right.data, "the right factor");
  require_aligned(add.data, "what is added");
  call.weights = make_tensor_map(right.data, N, K, tile.features);
  call.add = add ? add.data : nullptr;
  const int blocks = num_blocks(call, multiprocessors);
  if (tile.schedule == ChunkSchedule::kSideBySide) return run_side_by_side_kernel(stream, tile, call, blocks);
  if (call.parts == 1) return run_tile_kernel(stream, tile, call, blocks);
  ProductCall apart = call;
  apart.out = scratch;
  apart.add = nullptr;
  apart.is_fp32 = true;
  run_tile_kernel(stream, tile, apart, blocks);
  run_chunk_sum_kernel(stream, call, static_cast<const float*>(scratch));
}

// More than 4 KB of parameters: from drivers of CUDA 12.1 on.
bool experts_fit_one_launch() { return driver_version() >= 12010; }

void multiply_experts_forward(Stream stream, const ExpertProducts& products, const ProductTile* wanted) {
  const auto& [out, left, weights, first_rows, count, N, K] = products;
  const int multiprocessors = num_multiprocessors();
  for (int64_t next = 0; next < count;) {
    ExpertCall experts{};
    std::vector<int64_t> rows;
    std::vector<const void*> matrices;
    for (; next < count && rows.size() < kMaxExperts; ++next) {
      if (first_rows[next] == first_rows[next + 1]) continue;
      experts.first_rows[rows.size()] = static_cast<int>(first_rows[next]);
      experts.first_rows[rows.size() + 1] = static_cast<int>(first_rows[next + 1]);
      rows.push_back(first_rows[next + 1] - first_rows[next]);
      matrices.push_back(weights[next]);
    }
    if (rows.empty()) return;
    const ProductTile tile = wanted != nullptr ? *wanted : choose_expert_tile(rows, N, K, multiprocessors);
    experts.call = call_of(out, left, first_rows[count], N, K, tile);
    experts.count = static_cast<int>(rows.size());
    for (size_t e = 0; e < rows.size(); ++e) {
      require_aligned(matrices[e], "the right factor");
      experts.weights[e] = make_tensor_map(matrices[e], N, K, tile.features);
      experts.first_tiles[e + 1] =
          experts.first_tiles[e] + static_cast<int>(ceil_div<int64_t>(rows[e], tile.groups * kProductRows));
    }
    experts.call.row_tiles = experts.first_tiles[rows.size()];
    experts.call.stages = num_stages(tile, 1, 0);
    run_expert_kernel(stream, tile, experts, num_blocks(experts.call, multiprocessors));
  }
}

}  // namespace wideseek::cuda
