// A warp takes one head of one row. Spans are read several at a time, since each comes from memory, and merged one
// after the other.
#include "cuda/attention_merge.h"

#include <cmath>

namespace wideseek::cuda {
namespace {

constexpr int kWarps = 4, kReadAhead = 8;

struct Call {
  BF16* out;
  float* lse;
  Partials partials;
  const MergedRow* rows;
  const int32_t* tables;
  int64_t num_warps;
  Heads heads;
  float scale;
};

template <int D>
__global__ void __launch_bounds__(kWarps * 32) merge_kernel(Call call) {
  constexpr int kColumns = D / 32;  // of a lane, consecutive
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + warp_id();
  if (warp >= call.num_warps) return;
  const int lane = lane_id(), head = static_cast<int>(warp % call.heads.num_heads);
  const MergedRow row = call.rows[warp / call.heads.num_heads];
  if (row.num_spans == 0) return;
  const int32_t* const starts = call.tables + row.first_start;
  const int kv_head = head / call.heads.group, offset = row.offset + head % call.heads.group;
  const float scale_log2 = call.scale * kLog2E;
  RowTotal merged{};
  float sum[kColumns]{};
  for (int span = 0; span < row.num_spans; span += kReadAhead) {
    RowTotal totals[kReadAhead];
    float sums[kReadAhead][kColumns];
    WS_UNROLL
    for (int i = 0; i < kReadAhead; ++i) {
      if (span + i >= row.num_spans) continue;
      const float* const of_span = call.partials.template sums<D>(starts[span + i] + offset, kv_head);
      totals[i] = *call.partials.template total<D>(starts[span + i] + offset, kv_head);
      WS_UNROLL
      for (int c = 0; c < kColumns; c += 2) {
        const TwoFloats two = *reinterpret_cast<const TwoFloats*>(of_span + lane * kColumns + c);
        sums[i][c] = two.first;
        sums[i][c + 1] = two.second;
      }
    }
    WS_UNROLL
    for (int i = 0; i < kReadAhead; ++i) {
      if (span + i >= row.num_spans) continue;
      if (span + i == 0) {
        merged = totals[i];
        WS_UNROLL
        for (int c = 0; c < kColumns; ++c) sum[c] = sums[i][c];
      } else {
        float keep, take;
        merge_totals(merged, totals[i], scale_log2, keep, take);
        WS_UNROLL
        for (int c = 0; c < kColumns; ++c) sum[c] = merge_sum(sum[c], keep, sums[i][c], take);
      }
    }
  }
  const int64_t out_head = int64_t{row.row} * call.heads.num_heads + head;
  const float factor = last_factor(merged);
  auto* const out = reinterpret_cast<uint32_t*>(call.out + out_head * D + lane * kColumns);
  WS_UNROLL
  for (int c = 0; c < kColumns; c += 2) out[c / 2] = pack_bf16(sum[c] * factor, sum[c + 1] * factor);
  if (call.lse != nullptr && lane == 0) call.lse[out_head] = log_sum_exp(merged, call.scale);
}

}  // namespace

void merge_partials(Stream stream, BF16* out, float* lse, const Partials& partials, const CudaAttentionPlan& plan,
                    const PartWave& wave) {
  const Heads& heads = plan.heads();
  const Call call{out,
                  lse,
                  partials,
                  plan.query_parts().merged + wave.first_merged,
                  plan.query_tiles().tables,
                  wave.num_merged * heads.num_heads,
                  heads,
                  1.0f / std::sqrt(static_cast<float>(heads.head_dim))};
  const Launch where{static_cast<unsigned>(ceil_div<int64_t>(call.num_warps, kWarps)), kWarps * 32};
  if (heads.head_dim == 64) {
    launch_early(merge_kernel<64>, where, stream, call);
  } else {
    launch_early(merge_kernel<128>, where, stream, call);
  }
}

}  // namespace wideseek::cuda
