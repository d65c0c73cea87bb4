// Products by blocks that compute one chunk of a tile or all of its chunks in turn: a warpgroup, or two with 64 rows
// each, that multiply, and one more that brings what they need and runs ahead into the block's next unit.
#include "cuda/product_kernels.h"

namespace wideseek::cuda {
namespace {

// Of 65,536 registers for 3 x 128 threads: few to bring operands, many to compute.
constexpr int kBringingRegisters = 24, kComputingRegisters = 240;

template <int kFeatures, bool kInTurn>
__device__ __forceinline__ void compute_units(const ProductCall& call, const ProductRing<kFeatures>& ring, int group,
                                              int groups) {
  const auto x_offset = static_cast<uint32_t>(group) * kOperandTileBytes;
  const int units = ProductUnit::count(call), group_row = group * kProductRows + warp_of_group() * 16;
  RingPlace place;
  wait_for_earlier_kernels();
  WS_ROLLED
  for (int number = static_cast<int>(blockIdx.x); number < units; number += static_cast<int>(gridDim.x)) {
    const ProductUnit unit(call, number);
    float sum[kFeatures / 8][4];
    if constexpr (kInTurn) {
      float total[kFeatures / 8][4];
      WS_ROLLED
      for (int chunk = 0; chunk < call.chunks; ++chunk) {
        sum_chunk<kFeatures>(sum, ring, place, first_slice(call, chunk + 1) - first_slice(call, chunk), 1, x_offset);
        WS_UNROLL
        for (int n = 0; n < kFeatures / 8; ++n) {
          WS_UNROLL
          for (int e = 0; e < 4; ++e) total[n][e] = chunk == 0 ? sum[n][e] : total[n][e] + sum[n][e];
        }
      }
      write_rows<kFeatures>(call, total, 0, unit.row_tile * groups * kProductRows + group_row,
                            unit.feature_tile * kFeatures);
    } else {
      sum_chunk<kFeatures>(sum, ring, place, UnitSlices<false>(call, unit).count, 1, x_offset);
      write_rows<kFeatures>(call, sum, unit.part, unit.row_tile * groups * kProductRows + group_row,
                            unit.feature_tile * kFeatures);
    }
  }
}

template <int kFeatures, int kGroups, bool kInTurn>
__global__ void __launch_bounds__((1 + kGroups) * kWarpgroupThreads, 1)
    tile_kernel(const __grid_constant__ ProductCall call) {
  if (kHasWgmma) {
    const ProductRing<kFeatures> ring(call, operand_shared_address());
    if (threadIdx.x == 0) {
      prefetch_map(call.weights);
      prefetch_map(call.x);
      ring.start_barriers(kGroups * kWarpgroupThreads / 32);
    }
    __syncthreads();
    const int group = warpgroup_id();
    if (group == 0) {
      if constexpr (kGroups > 1) shrink_registers<kBringingRegisters>();
      if (threadIdx.x == 0) bring_slices<kFeatures, false>(call, ring, kGroups * kProductRows);
    } else {
      if constexpr (kGroups > 1) grow_registers<kComputingRegisters>();
      compute_units<kFeatures, kInTurn>(call, ring, group - 1, kGroups);
    }
  }
}

template <int kFeatures, int kGroups, bool kInTurn>
void run(Stream stream, const ProductTile& tile, ProductCall call, const ProductLaunch& where) {
  call.stages = num_stages(tile, 0);
  const Launch shape{static_cast<unsigned>(where.blocks), (1 + kGroups) * kWarpgroupThreads,
                     shared_bytes_of(tile, call.stages, 0)};
  launch_product(tile_kernel<kFeatures, kGroups, kInTurn>, shape, stream, call, where.is_early);
}

using Runner = void (*)(Stream, const ProductTile&, ProductCall, const ProductLaunch&);

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

void run_tile_kernel(Stream stream, const ProductTile& tile, const ProductCall& call, const ProductLaunch& where) {
  kernel_of(tile)(stream, tile, call, where);
}

}  // namespace wideseek::cuda
