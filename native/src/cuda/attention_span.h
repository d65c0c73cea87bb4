// Results of spans, and how they are merged: the one formula of blocks that take several spans and of the kernel that
// merges what blocks of one span each have left in memory.
#pragma once

#include <cmath>

#include "cuda/attention_parts.h"
#include "cuda/attention_tile.h"

namespace wideseek::cuda {

// Of one row over some keys: largest score before scaling, and sum of weights 2^(scale_log2 (score - max)).
struct alignas(8) RowTotal {
  float max, total;
};

struct alignas(8) TwoFloats {
  float first, second;
};

// Device memory for results of spans: for each packed row and kv head the sums of weights times values, then a
// RowTotal. Where one lies does not depend on how many there are.
struct Partials {
  float* first;
  int32_t num_kv_heads;

  static constexpr int64_t row_floats(int64_t head_dim) { return head_dim + 8; }  // whole sectors of 32 bytes
  static int64_t floats(const Heads& heads, int64_t rows) {
    return rows * heads.num_kv_heads * row_floats(heads.head_dim);
  }
  template <int D>
  __device__ __forceinline__ float* sums(int64_t row, int kv_head) const {
    return first + (row * num_kv_heads + kv_head) * row_floats(D);
  }
  template <int D>
  __device__ __forceinline__ RowTotal* total(int64_t row, int kv_head) const {
    return reinterpret_cast<RowTotal*>(sums<D>(row, kv_head) + D);
  }
};

// Merges the totals of a span into those of the spans before it. Sums of values become keep * merged + take * span.
__device__ __forceinline__ void merge_totals(RowTotal& merged, const RowTotal& span, float scale_log2, float& keep,
                                             float& take) {
  const float max = fmaxf(merged.max, span.max);
  keep = fast_exp2((merged.max - max) * scale_log2);
  take = fast_exp2((span.max - max) * scale_log2);
  merged = {max, __fmaf_rn(merged.total, keep, span.total * take)};
}
__device__ __forceinline__ float merge_sum(float merged, float keep, float span, float take) {
  return __fmaf_rn(merged, keep, span * take);
}
// What sums of values are multiplied by in the end.
__device__ __forceinline__ float last_factor(const RowTotal& row) { return 1.0f / row.total; }
__device__ __forceinline__ float log_sum_exp(const RowTotal& row, float scale) {
  return __fmaf_rn(row.max, scale, logf(row.total));
}

// Lanes 4 g + t have parts of one row's total; all get the whole.
__device__ __forceinline__ void add_lanes(float& total) {
  total += __shfl_xor_sync(0xffffffffu, total, 1);
  total += __shfl_xor_sync(0xffffffffu, total, 2);
}

// The merged result of the spans that a block has gone through, in shared memory: the sums are each thread's own. A
// thread is number `thread` of kThreads, and holds 16-row tiles of its warp as fragments of mma.h.
template <int D, int kRowTiles, int kThreads>
struct MergedSpans {
  static constexpr uint32_t kSumBytes = kRowTiles * (D / 8) * kThreads * 16,
                            kBytes = kSumBytes + kThreads / 32 * 16 * kRowTiles * 16;
  SharedAddress first;
  __device__ __forceinline__ SharedAddress sum_address(int thread, int i, int n) const {
    return first + static_cast<uint32_t>(((i * (D / 8) + n) * kThreads + thread) * 16);
  }
  __device__ __forceinline__ SharedAddress total_address(int thread, int i, int half) const {
    return first + kSumBytes +
           static_cast<uint32_t>((thread / 32 * 16 * kRowTiles + i * 16 + half * 8 + thread % 32 / 4) * 16);
  }
  __device__ __forceinline__ RowTotal load_total(int thread, int i, int half) const {
    const float4 total = load_shared_floats(total_address(thread, i, half));
    return {total.x, total.y};
  }

  // Merges row tile i of a span into what is held, or begins with it. The span becomes the merged result if it is the
  // last one.
  __device__ __forceinline__ void add(int thread, int i, float (&sum)[D / 8][4], float (&max)[2], float (&total)[2],
                                      bool is_first, bool is_last, float scale_log2) const {
    float keep[2] = {0, 0}, take[2] = {1, 1};
    __syncwarp();  // the totals of the span before have been written
    if (!is_first) {
      WS_UNROLL
      for (int half = 0; half < 2; ++half) {
        RowTotal merged = load_total(thread, i, half);
        merge_totals(merged, {max[half], total[half]}, scale_log2, keep[half], take[half]);
        max[half] = merged.max;
        total[half] = merged.total;
      }
      WS_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        const float4 held = load_shared_floats(sum_address(thread, i, n));
        sum[n][0] = merge_sum(held.x, keep[0], sum[n][0], take[0]);
        sum[n][1] = merge_sum(held.y, keep[0], sum[n][1], take[0]);
        sum[n][2] = merge_sum(held.z, keep[1], sum[n][2], take[1]);
        sum[n][3] = merge_sum(held.w, keep[1], sum[n][3], take[1]);
      }
    }
    if (is_last) return;
    __syncwarp();  // all lanes have read the totals
    WS_UNROLL
    for (int half = 0; half < 2; ++half) {
      if (thread % 4 == 0) store_shared_floats(total_address(thread, i, half), {max[half], total[half], 0, 0});
    }
    WS_UNROLL
    for (int n = 0; n < D / 8; ++n)
      store_shared_floats(sum_address(thread, i, n), {sum[n][0], sum[n][1], sum[n][2], sum[n][3]});
  }
};

// Writes a row tile of one span, whose first row is packed row first_row of its part, to its place for the kernel that
// merges. Rows from num_rows on are of no query.
template <int D>
__device__ __forceinline__ void store_partial(const Partials& partials, int kv_head, int partial, int first_row,
                                              int num_rows, const float (&sum)[D / 8][4], const float (&max)[2],
                                              const float (&total)[2]) {
  const int lane = lane_id();
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    if (row >= num_rows) continue;
    float* const sums = partials.sums<D>(partial + row, kv_head);
    if (lane % 4 == 0) *partials.total<D>(partial + row, kv_head) = {max[half], total[half]};
    WS_UNROLL
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<TwoFloats*>(sums + n * 8 + lane % 4 * 2) = {sum[n][half * 2], sum[n][half * 2 + 1]};
  }
}

}  // namespace wideseek::cuda
