// Forward products: what a kernel is told, and which one is launched.
#include "cuda/product.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "cuda/product_kernels.h"

namespace wideseek::cuda {
namespace {

constexpr const char* kOp = "gemm";
constexpr int64_t kSharedBytes = 227 * 1024;

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

// Recordings take such launches from drivers of CUDA 12.3 on.
bool may_begin_early([[maybe_unused]] Stream stream) {
#if defined(WIDESEEK_CUDA_EMULATION)
  return false;
#else
  static const int driver = [] {
    int version = 0;
    check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
    return version;
  }();
  if (driver < 12030 || !products_begin_early()) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status == cudaStreamCaptureStatusActive;
#endif
}

void require_aligned(const void* pointer, const char* what) {
  WS_CHECK(is_aligned(pointer, 16), kInvalidArgument, kOp, std::string(what) + " is not aligned to 16 bytes");
}

int64_t fixed_bytes(const ProductTile& tile) {
  return ProductRing<8>::bytes_read_beyond(tile.loaded_rows) + int64_t{ProductRing<8>::kBarrierBytes};
}
int64_t stage_bytes(const ProductTile& tile) { return int64_t{kSliceBytes} * (tile.features + tile.loaded_rows); }

}  // namespace

int num_stages(const ProductTile& tile, int64_t other_bytes) {
  const int64_t room = (kSharedBytes - fixed_bytes(tile) - other_bytes) / stage_bytes(tile);
  return static_cast<int>(std::min<int64_t>(room, kMaxProductStages));
}

int64_t shared_bytes_of(const ProductTile& tile, int stages, int64_t other_bytes) {
  return stages * stage_bytes(tile) + fixed_bytes(tile) + other_bytes;
}

void multiply_forward(Stream stream, const Product& product, void* scratch, const ProductTile* wanted) {
  const auto& [kind, out, left, right, add, M, N, K] = product;
  WS_CHECK(M < int64_t{1} << 30, kUnsupported, kOp, std::to_string(M) + " rows at once are too many");
  require_aligned(left.data, "the left factor");
  require_aligned(right.data, "the right factor");
  require_aligned(out.data, "the result");
  require_aligned(add.data, "what is added");
  const ProductSize size{M, N, K};
  const int multiprocessors = num_multiprocessors();
  const ProductTile tile = wanted != nullptr ? *wanted : choose_tile(size, Gemm::kWorkspaceBytes, multiprocessors);
  ProductCall call{};
  call.x = make_tensor_map(left.data, M, K, tile.loaded_rows);
  call.weights = make_tensor_map(right.data, N, K, tile.features);
  call.out = out.data;
  call.add = add ? add.data : nullptr;
  call.M = static_cast<int>(M);
  call.N = static_cast<int>(N);
  call.slices = static_cast<int>(ceil_div<int64_t>(K, kSliceDepth));
  call.chunks = num_chunks(N, K);
  call.parts = tile.schedule == ChunkSchedule::kOne ? call.chunks : 1;
  call.row_tiles = static_cast<int>(ceil_div<int64_t>(M, tile.groups * kProductRows));
  call.feature_tiles = static_cast<int>(ceil_div<int64_t>(N, tile.features));
  call.loaded_rows = tile.loaded_rows;
  call.is_fp32 = out.dtype == DType::kFloat32;
  const int64_t units = int64_t{call.row_tiles} * call.feature_tiles * call.parts;
  WS_CHECK(units < int64_t{1} << 30, kUnsupported, kOp, std::to_string(M) + " rows at once are too many");
  const ProductLaunch where{static_cast<int>(std::min<int64_t>(units, multiprocessors)), may_begin_early(stream)};
  if (tile.schedule == ChunkSchedule::kSideBySide) return run_side_by_side_kernel(stream, tile, call, where);
  if (call.parts == 1) return run_tile_kernel(stream, tile, call, where);
  ProductCall apart = call;
  apart.out = scratch;
  apart.add = nullptr;
  apart.is_fp32 = true;
  run_tile_kernel(stream, tile, apart, where);
  run_chunk_sum_kernel(stream, call, static_cast<const float*>(scratch), where.is_early);
}

}  // namespace wideseek::cuda
