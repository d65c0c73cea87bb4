// Products of one layer by the kernels of product_units.h.
#include "cuda/product_kernels.h"
#include "cuda/product_units.h"

namespace wideseek::cuda {
namespace {

template <int kFeatures, int kGroups, bool kInTurn>
__global__ void __launch_bounds__((1 + kGroups) * kWarpgroupThreads, 1)
    tile_kernel(const __grid_constant__ ProductCall call) {
  if (kHasWgmma) {
    if (threadIdx.x == 0) {
      prefetch_map(call.weights);
      prefetch_map(call.x);
    }
    run_units<kFeatures, kGroups, kInTurn>(call, RowsOfLayer{call, kGroups * kProductRows});
  }
}

template <int kFeatures, int kGroups, bool kInTurn>
void run(Stream stream, const ProductTile& tile, ProductCall call, int blocks) {
  call.stages = num_stages(tile, 1, 0);
  const Launch shape{static_cast<unsigned>(blocks), (1 + kGroups) * kWarpgroupThreads,
                     shared_bytes_of(tile, call.stages, 1, 0)};
  launch_early(tile_kernel<kFeatures, kGroups, kInTurn>, shape, stream, call);
}

using Runner = void (*)(Stream, const ProductTile&, ProductCall, int);

Runner kernel_of(const ProductTile& tile) {
  const bool in_turn = tile.schedule == ChunkSchedule::kInTurn;
  if (tile.groups == 2) {
    switch (tile.features) {
      case 64:
        return in_turn ? run<64, 2, true> : run<64, 2, false>;
      case 128:
        return in_turn ? run<128, 2, true> : run<128, 2, false>;
      case 192:
        return in_turn ? run<192, 2, true> : run<192, 2, false>;
      default:
        return run<256, 2, false>;
    }
  }
  switch (tile.features) {
    case 32:
      return run<32, 1, false>;
    case 40:
      return run<40, 1, false>;
    case 48:
      return run<48, 1, false>;
    case 64:
      return run<64, 1, false>;
    case 96:
      return run<96, 1, false>;
    case 128:
      return run<128, 1, false>;
    case 152:
      return run<152, 1, false>;
    case 192:
      return run<192, 1, false>;
    default:
      return run<256, 1, false>;
  }
}

}  // namespace

void run_tile_kernel(Stream stream, const ProductTile& tile, const ProductCall& call, int blocks) {
  kernel_of(tile)(stream, tile, call, blocks);
}

}  // namespace wideseek::cuda
