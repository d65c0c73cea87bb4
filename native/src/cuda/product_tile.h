// What the kernels of linear layers' forward products share (product_plan.h): a warp that brings slices of x and of the
// weights through a ring of stages, warpgroups that multiply, and how a tile is written. Rows of x are the rows of the
// products and features their columns, so a lane has neighbouring features of a row.
#pragma once

#include "cuda/product_plan.h"
#include "cuda/run.h"
#include "cuda/wgmma_columns.h"

namespace wideseek::cuda {

struct ProductCall {
  TensorMap x, weights;
  void* out;        // [M,N] of bf16, or of fp32 if is_fp32; if parts > 1, [parts][M][N] of fp32
  const void* add;  // as out, or null
  int M, N;
  int slices, chunks;
  int parts;  // chunks of an element that are computed by different units
  int row_tiles, feature_tiles;
  int loaded_rows;
  int stages;
  bool is_fp32;
};

constexpr int kMaxProductStages = 64;
constexpr int kSliceBytes = kSliceDepth * 2;  // of a row of x or a feature
constexpr uint32_t kOperandTileBytes = kProductRows * kSliceBytes;

// Of the grid's work: a tile, and the chunk if chunks are computed apart. Row tiles come in bands: those of a band use
// a tile of weights at about the same time, and the bands' rows of x stay in L2 while all weights pass by.
struct ProductUnit {
  static constexpr int kBand = 8;
  int row_tile, feature_tile, part;

  __device__ __forceinline__ ProductUnit(const ProductCall& call, int number) {
    const int columns = call.feature_tiles * call.parts, band = number / (kBand * columns);
    const int left = call.row_tiles - band * kBand, rows = left < kBand ? left : kBand;
    const int place = number - band * kBand * columns, column = place / rows;
    row_tile = band * kBand + place % rows;
    feature_tile = column / call.parts;
    part = column % call.parts;
  }
  __device__ static __forceinline__ int count(const ProductCall& call) {
    return call.row_tiles * call.feature_tiles * call.parts;
  }
};

// The rows of a tile, and by which weights they are multiplied.
struct TileRows {
  int first, end;  // no row from `end` on is written
  const TensorMap* weights;
};

// How a row tile's rows are found where all are of one layer.
struct RowsOfLayer {
  const ProductCall& call;
  int rows_of_tile;
  __device__ __forceinline__ TileRows of(int row_tile) const {
    return {row_tile * rows_of_tile, call.M, &call.weights};
  }
};

// The first slice of a chunk; that of `chunks` ends the last.
__device__ __forceinline__ int first_slice(const ProductCall& call, int chunk) {
  return chunk * call.slices / call.chunks;
}

// Shared memory: one ring of stages, or one for each chunk that is computed beside others, all of equal size. A stage
// is a slice of a tile's weights, then of its rows of x. Behind the stages of all comes what products read beyond the
// rows that were loaded, then the barriers.
template <int kFeatures>
struct ProductRing {
  static constexpr uint32_t kWeightBytes = kFeatures * kSliceBytes;
  static constexpr uint32_t kBarrierBytes = 2 * kMaxProductStages * 8;
  SharedAddress first, barriers;
  uint32_t stage_bytes;
  int stages;

  // Ring number `number` of `rings`.
  __device__ __forceinline__ ProductRing(const ProductCall& call, SharedAddress begin, int number, int rings)
      : stage_bytes(kWeightBytes + static_cast<uint32_t>(call.loaded_rows) * kSliceBytes), stages(call.stages) {
    const uint32_t bytes = static_cast<uint32_t>(stages) * stage_bytes;
    first = begin + static_cast<uint32_t>(number) * bytes;
    barriers = begin + static_cast<uint32_t>(rings) * bytes + bytes_read_beyond(call.loaded_rows) +
               static_cast<uint32_t>(number) * kBarrierBytes;
  }
  static __host__ __device__ __forceinline__ uint32_t bytes_read_beyond(int loaded_rows) {
    const uint32_t loaded = static_cast<uint32_t>(loaded_rows) * kSliceBytes;
    return loaded < kOperandTileBytes ? kOperandTileBytes - loaded : 0;
  }
  __device__ __forceinline__ SharedAddress weights(int stage) const {
    return first + static_cast<uint32_t>(stage) * stage_bytes;
  }
  __device__ __forceinline__ SharedAddress x(int stage) const { return weights(stage) + kWeightBytes; }
  __device__ __forceinline__ SharedAddress full(int stage) const { return barriers + stage * 8; }
  __device__ __forceinline__ SharedAddress empty(int stage) const { return full(stage) + kMaxProductStages * 8; }

  // By one thread. `readers`: warps that read a stage.
  __device__ __forceinline__ void start_barriers(int readers) const {
    for (int stage = 0; stage < stages; ++stage) {
      init_mbarrier(full(stage), 1);
      init_mbarrier(empty(stage), readers);
    }
    publish_mbarriers();
  }
};

// A place in the ring, and how often it was passed.
struct RingPlace {
  int stage = 0, round = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage < stages) return;
    stage = 0;
    ++round;
  }
};

// Slices [first, first + count).
struct Slices {
  int first, count;
};
__device__ __forceinline__ Slices slices_of_chunk(const ProductCall& call, int chunk) {
  const int first = first_slice(call, chunk);
  return {first, first_slice(call, chunk + 1) - first};
}
// What a ring brings for a unit: a chunk, or all. ring_chunk: the one of a ring that brings always the same, else -1.
__device__ __forceinline__ Slices slices_of_unit(const ProductCall& call, const ProductUnit& unit, int ring_chunk) {
  if (ring_chunk >= 0) return slices_of_chunk(call, ring_chunk);
  return call.parts > 1 ? slices_of_chunk(call, unit.part) : Slices{0, call.slices};
}

// By one thread: brings what the units of the block need. Weights come first and at once, for no kernel before this one
// writes them; x when the kernels before have ended.
template <int kFeatures, typename Rows>
__device__ __forceinline__ void bring_slices(const ProductCall& call, const ProductRing<kFeatures>& ring,
                                             const Rows& rows, int ring_chunk) {
  const int units = ProductUnit::count(call), begin = static_cast<int>(blockIdx.x);
  const auto bring_weights = [&](int stage, int slice, const ProductUnit& unit, const TileRows& tile) {
    arrive_expecting(ring.full(stage), ring.stage_bytes);
    copy_box(ring.weights(stage), *tile.weights, slice * kSliceDepth, unit.feature_tile * kFeatures, ring.full(stage));
  };
  const ProductUnit first_unit(call, begin);
  const TileRows first_tile = rows.of(first_unit.row_tile);
  const Slices first_slices = slices_of_unit(call, first_unit, ring_chunk);
  const int ahead = first_slices.count < ring.stages ? first_slices.count : ring.stages;
  for (int i = 0; i < ahead; ++i) bring_weights(i, first_slices.first + i, first_unit, first_tile);
  wait_for_earlier_kernels();
  RingPlace place;
  for (int number = begin; number < units; number += static_cast<int>(gridDim.x)) {
    const ProductUnit unit(call, number);
    const TileRows tile = rows.of(unit.row_tile);
    const Slices slices = slices_of_unit(call, unit, ring_chunk);
    for (int i = 0; i < slices.count; ++i) {
      if (number != begin || i >= ahead) {
        wait_phase(ring.empty(place.stage), place.round - 1);
        bring_weights(place.stage, slices.first + i, unit, tile);
      }
      copy_box(ring.x(place.stage), call.x, (slices.first + i) * kSliceDepth, tile.first, ring.full(place.stage));
      place.advance(ring.stages);
    }
  }
}

// By a warpgroup: one chunk, sum [64, features] = rows of x times weights over `count` slices from `place` on.
// x_offset: of the rows in a stage.
template <int kFeatures>
__device__ __forceinline__ void sum_chunk(float (&sum)[kFeatures / 8][4], const ProductRing<kFeatures>& ring,
                                          RingPlace& place, int count, uint32_t x_offset) {
  int last_stage = 0;
  WS_ROLLED
  for (int i = 0; i < count; ++i) {
    wait_phase(ring.full(place.stage), place.round);
    const Operand x = operand_of_rows<kSliceDepth>(ring.x(place.stage) + x_offset);
    const Operand weights = operand_of_rows<kSliceDepth>(ring.weights(place.stage));
    fence_products(sum);
    WS_UNROLL
    for (int k = 0; k < kSliceDepth / 16; ++k)
      issue_row_product(sum, x + column_step(k), weights + column_step(k), i + k > 0);
    commit_products();
    wait_products<1>(sum);
    if (i > 0) release(ring.empty(last_stage));
    last_stage = place.stage;
    place.advance(ring.stages);
  }
  wait_products<0>(sum);
  release(ring.empty(last_stage));
}

// total += sum, in the order of chunks.
__device__ __forceinline__ void add_chunk(Run<float, 4>& total, const Run<float, 4>& sum) {
  WS_UNROLL
  for (int i = 0; i < 4; ++i) total.v[i] += sum.v[i];
}

// ---- what is added, and rounding

// Elements [at, at + 2) of a matrix.
__device__ __forceinline__ Run<float, 2> load_two(const void* matrix, int64_t at, bool is_fp32) {
  if (is_fp32) return *reinterpret_cast<const Run<float, 2>*>(static_cast<const float*>(matrix) + at);
  const auto both = *reinterpret_cast<const Run<BF16, 2>*>(static_cast<const BF16*>(matrix) + at);
  return {{to_float(both.v[0]), to_float(both.v[1])}};
}

// Adds to elements [at, at + 4) of the result what is to be added, and stores them.
__device__ __forceinline__ void store_four(const ProductCall& call, int64_t at, Run<float, 4> total) {
  if (call.add != nullptr) {
    WS_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const Run<float, 2> added = load_two(call.add, at + i, call.is_fp32);
      total.v[i] += added.v[0];
      total.v[i + 1] += added.v[1];
    }
  }
  if (call.is_fp32) {
    *reinterpret_cast<Run<float, 4>*>(static_cast<float*>(call.out) + at) = total;
  } else {
    *reinterpret_cast<Run<uint32_t, 2>*>(static_cast<BF16*>(call.out) +
                                         at) = {{two_bf16(total.v[0], total.v[1]), two_bf16(total.v[2], total.v[3])}};
  }
}

// Writes those of a warp's sums of 16 rows, of which the first is first_row, that are before end_row, from feature
// first_feature on.
template <int kFeatures>
__device__ __forceinline__ void write_rows(const ProductCall& call, float (&sum)[kFeatures / 8][4], int part,
                                           int first_row, int end_row, int first_feature) {
  const int lane = lane_id(), pair = lane % 4 * 2;
  const bool is_odd = lane % 2 == 1;
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    const bool is_row = row < end_row;
    const int64_t at = (static_cast<int64_t>(part) * call.M + row) * call.N + first_feature;
    const auto is_valid = [&](int n) { return is_row && first_feature + n * 8 < call.N; };
    const auto value = [&](int n) {
      Run<float, 2> two{{sum[n][half * 2], sum[n][half * 2 + 1]}};
      if (call.add == nullptr || !is_valid(n)) return two;
      const Run<float, 2> added = load_two(call.add, at + n * 8 + pair, call.is_fp32);
      return Run<float, 2>{{two.v[0] + added.v[0], two.v[1] + added.v[1]}};
    };
    if (call.is_fp32) {
      WS_UNROLL
      for (int n = 0; n < kFeatures / 8; ++n) {
        const Run<float, 2> two = value(n);
        if (is_valid(n)) *reinterpret_cast<Run<float, 2>*>(static_cast<float*>(call.out) + at + n * 8 + pair) = two;
      }
      continue;
    }
    // Two lanes exchange, so that each has four neighbours of eight features and a row's 32 bytes are written at once.
    WS_UNROLL
    for (int n = 0; n + 1 < kFeatures / 8; n += 2) {
      const Run<float, 2> left = value(n), right = value(n + 1);
      const uint32_t first = two_bf16(left.v[0], left.v[1]), second = two_bf16(right.v[0], right.v[1]);
      const uint32_t got = __shfl_xor_sync(0xffffffffu, is_odd ? first : second, 1);
      const Run<uint32_t, 2> four = is_odd ? Run<uint32_t, 2>{{got, second}} : Run<uint32_t, 2>{{first, got}};
      const int own = is_odd ? n + 1 : n;
      if (is_valid(own))
        *reinterpret_cast<Run<uint32_t, 2>*>(static_cast<BF16*>(call.out) + at + own * 8 + lane % 4 / 2 * 4) = four;
    }
    if constexpr (kFeatures / 8 % 2 == 1) {
      constexpr int kLast = kFeatures / 8 - 1;
      const Run<float, 2> two = value(kLast);
      if (is_valid(kLast)) {
        *reinterpret_cast<uint32_t*>(static_cast<BF16*>(call.out) + at + kLast * 8 + pair) =
            two_bf16(two.v[0], two.v[1]);
      }
    }
  }
}

}  // namespace wideseek::cuda
