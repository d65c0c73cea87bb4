// What the tensor-core kernels of the backward pass share: the call, the steps over the query rows that attend to a key
// tile, and how scores in fragments become weights and gradients.
#pragma once

#include <cmath>

#include "cuda/attention_tile.h"

namespace wideseek::cuda {

struct GradientCall {
  BF16* dqkv;
  const BF16* dout;
  const BF16* qkv;
  const BF16* keys;
  const BF16* values;
  const RowStatistic* statistics;
  Heads heads;
  float scale;

  GradientCall(TypedPointer dqkv_, ConstTypedPointer dout_, const RowStatistic* statistics_, ConstTypedPointer qkv_,
               const KvBlocks& cache, const Heads& heads_)
      : dqkv(static_cast<BF16*>(dqkv_.data)),
        dout(static_cast<const BF16*>(dout_.data)),
        qkv(static_cast<const BF16*>(qkv_.data)),
        keys(static_cast<const BF16*>(cache.keys.data)),
        values(static_cast<const BF16*>(cache.values.data)),
        statistics(statistics_),
        heads(heads_),
        scale(1.0f / std::sqrt(static_cast<float>(heads_.head_dim))) {}
};

template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void scale_by(float (&acc)[kRowTiles][kColumnTiles][4], float factor) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int n = 0; n < kColumnTiles; ++n) {
      WS_UNROLL
      for (int e = 0; e < 4; ++e) acc[i][n][e] *= factor;
    }
  }
}

// ---- over the queries of a key tile

constexpr int kStepRows = 64;  // packed query rows of a step
constexpr int kRowColumns = kStepRows / 8;

// Packed rows [begin, begin + 64) of a range.
struct Step {
  int range, begin;  // range: index in the lists

  // False after the last step of the tile.
  __device__ __forceinline__ bool advance(const KeyTiles& lists, int last_range, int group) {
    begin += kStepRows;
    if (begin < lists.ranges[range].num_rows * group) return true;
    begin = 0;
    return ++range <= last_range;
  }
};

// Where a step's first row is: a position, and the place in the group there.
struct StepStart {
  int position, in_group;
};

// Scores [16 keys, 64 queries] become weights, those of queries before the key 0. Rows past the range have queries and
// dout of zeros, so what weight they get does not matter.
__device__ __forceinline__ void weigh(float (&scores)[1][kRowColumns][4], SharedAddress statistics,
                                      const GradientCall& call, const StepStart& start, int first_key, int last_key) {
  const int lane = lane_id();
  const float scale_log2 = call.scale * kLog2E;
  WS_UNROLL
  for (int n = 0; n < kRowColumns; ++n) {
    const float4 pair =
        load_shared_floats(statistics + (n * 8 + lane % 4 * 2) * static_cast<uint32_t>(sizeof(RowStatistic)));
    WS_UNROLL
    for (int e = 0; e < 4; ++e)
      scores[0][n][e] = fast_exp2(__fmaf_rn(scores[0][n][e], scale_log2, -(e % 2 == 0 ? pair.x : pair.z)));
  }
  if (start.position >= last_key) return;
  WS_UNROLL
  for (int n = 0; n < kRowColumns; ++n) {
    WS_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int key = first_key + lane / 4 + e / 2 * 8, row = start.in_group + n * 8 + lane % 4 * 2 + e % 2;
      if (key > start.position + packed_position(row, call.heads.per_group)) scores[0][n][e] = 0;
    }
  }
}

// gradients = weights (gradients - delta)
__device__ __forceinline__ void differentiate(float (&gradients)[1][kRowColumns][4],
                                              const float (&weights)[1][kRowColumns][4], SharedAddress statistics) {
  WS_UNROLL
  for (int n = 0; n < kRowColumns; ++n) {
    const float4 pair =
        load_shared_floats(statistics + (n * 8 + lane_id() % 4 * 2) * static_cast<uint32_t>(sizeof(RowStatistic)));
    WS_UNROLL
    for (int e = 0; e < 4; ++e)
      gradients[0][n][e] = weights[0][n][e] * (gradients[0][n][e] - (e % 2 == 0 ? pair.y : pair.w));
  }
}

// ---- over the keys of a query tile

// The statistics of the warp's rows from first_row on, those that its lane has of fragments; rows of no query get
// zeros.
template <int kRowTiles>
__device__ __forceinline__ void load_statistics(RowStatistic (&statistics)[kRowTiles][2], const GradientCall& call,
                                                const PackedRows& rows, int first_row) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + i * 16 + half * 8 + lane_id() / 4;
      statistics[i][half] = row < rows.num_rows ? call.statistics[rows.head_of(row)] : RowStatistic{};
    }
  }
}

// scores become weights.
template <int kRowTiles, int kKeyColumns>
__device__ __forceinline__ void weigh(float (&scores)[kRowTiles][kKeyColumns][4],
                                      const RowStatistic (&statistics)[kRowTiles][2], float scale_log2) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int n = 0; n < kKeyColumns; ++n) {
      WS_UNROLL
      for (int e = 0; e < 4; ++e)
        scores[i][n][e] = fast_exp2(__fmaf_rn(scores[i][n][e], scale_log2, -statistics[i][e / 2].lse_log2));
    }
  }
}

// weights become the gradients of the scores, `gradients` being dP.
template <int kRowTiles, int kKeyColumns>
__device__ __forceinline__ void differentiate(float (&weights)[kRowTiles][kKeyColumns][4],
                                              const float (&gradients)[kRowTiles][kKeyColumns][4],
                                              const RowStatistic (&statistics)[kRowTiles][2]) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int n = 0; n < kKeyColumns; ++n) {
      WS_UNROLL
      for (int e = 0; e < 4; ++e) weights[i][n][e] *= gradients[i][n][e] - statistics[i][e / 2].delta;
    }
  }
}

}  // namespace wideseek::cuda
