// The kernels whose blocks compute one chunk of a tile, or all of its chunks in turn: a warpgroup, or two with 64 rows
// each, that multiply, and one more that brings what they need and runs ahead into the block's next unit.
#pragma once

#include "cuda/product_tile.h"

namespace wideseek::cuda {

// Of 65,536 registers for 3 x 128 threads: few to bring operands, many to compute.
constexpr int kBringingRegisters = 24, kComputingRegisters = 240;

// By a warpgroup that computes.
template <int kFeatures, bool kInTurn, typename Rows>
__device__ __forceinline__ void compute_units(const ProductCall& call, const ProductRing<kFeatures>& ring,
                                              const Rows& rows, int group) {
  const auto x_offset = static_cast<uint32_t>(group) * kOperandTileBytes;
  const int units = ProductUnit::count(call), own_row = group * kProductRows + warp_of_group() * 16;
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
        sum_chunk<kFeatures>(sum, ring, place, slices_of_chunk(call, chunk).count, x_offset);
        WS_UNROLL
        for (int n = 0; n < kFeatures / 8; ++n) {
          WS_UNROLL
          for (int e = 0; e < 4; ++e) total[n][e] = chunk == 0 ? sum[n][e] : total[n][e] + sum[n][e];
        }
      }
      const TileRows tile = rows.of(unit.row_tile);
      write_rows<kFeatures>(call, total, 0, tile.first + own_row, tile.end, unit.feature_tile * kFeatures);
    } else {
      sum_chunk<kFeatures>(sum, ring, place, slices_of_unit(call, unit, -1).count, x_offset);
      const TileRows tile = rows.of(unit.row_tile);
      write_rows<kFeatures>(call, sum, unit.part, tile.first + own_row, tile.end, unit.feature_tile * kFeatures);
    }
  }
}

// By a block of 1 + kGroups warpgroups.
template <int kFeatures, int kGroups, bool kInTurn, typename Rows>
__device__ __forceinline__ void run_units(const ProductCall& call, const Rows& rows) {
  let_next_kernel_begin();
  const ProductRing<kFeatures> ring(call, operand_shared_address(), 0, 1);
  if (threadIdx.x == 0) ring.start_barriers(kGroups * kWarpgroupThreads / 32);
  __syncthreads();
  const int group = warpgroup_id();
  if (group == 0) {
    if constexpr (kGroups > 1) shrink_registers<kBringingRegisters>();
    if (threadIdx.x == 0) bring_slices<kFeatures>(call, ring, rows, -1);
  } else {
    if constexpr (kGroups > 1) grow_registers<kComputingRegisters>();
    compute_units<kFeatures, kInTurn>(call, ring, rows, group - 1);
  }
}

}  // namespace wideseek::cuda
