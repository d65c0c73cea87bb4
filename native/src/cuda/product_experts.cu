// Products of many layers of one shape, each with some of the rows, by one launch: the kernels of product_units.h,
// whose row tiles find their layer in a list. Chunks always come in turn, so that few rows of few experts give enough
// blocks without scratch.
#include "cuda/product_kernels.h"
#include "cuda/product_units.h"

namespace wideseek::cuda {
namespace {

struct RowsOfExperts {
  const ExpertCall& experts;
  int rows_of_tile;
  __device__ __forceinline__ TileRows of(int row_tile) const {
    int expert = 0, end = experts.count;
    while (end - expert > 1) {
      const int middle = (expert + end) / 2;
      (experts.first_tiles[middle] <= row_tile ? expert : end) = middle;
    }
    return {experts.first_rows[expert] + (row_tile - experts.first_tiles[expert]) * rows_of_tile,
            experts.first_rows[expert + 1], &experts.weights[expert]};
  }
};

template <int kFeatures, int kGroups>
__global__ void __launch_bounds__((1 + kGroups) * kWarpgroupThreads, 1)
    expert_kernel(const __grid_constant__ ExpertCall experts) {
  if (kHasWgmma) {
    if (threadIdx.x == 0) prefetch_map(experts.call.x);
    run_units<kFeatures, kGroups, true>(experts.call, RowsOfExperts{experts, kGroups * kProductRows});
  }
}

template <int kFeatures, int kGroups>
void run(Stream stream, const ProductTile& tile, const ExpertCall& experts, int blocks) {
  const Launch shape{static_cast<unsigned>(blocks), (1 + kGroups) * kWarpgroupThreads,
                     shared_bytes_of(tile, experts.call.stages, 1, 0)};
  launch(expert_kernel<kFeatures, kGroups>, shape, stream, experts);
}

}  // namespace

void run_expert_kernel(Stream stream, const ProductTile& tile, const ExpertCall& experts, int blocks) {
  switch (tile.features * tile.groups) {
    case 64:
      return run<64, 1>(stream, tile, experts, blocks);
    case 96:
      return run<96, 1>(stream, tile, experts, blocks);
    case 128:
      return tile.groups == 1 ? run<128, 1>(stream, tile, experts, blocks) : run<64, 2>(stream, tile, experts, blocks);
    case 192:
      return run<192, 1>(stream, tile, experts, blocks);
    case 256:
      return run<128, 2>(stream, tile, experts, blocks);
    default:
      return run<192, 2>(stream, tile, experts, blocks);
  }
}

}  // namespace wideseek::cuda
