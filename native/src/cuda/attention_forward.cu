// Attention with a running softmax (FlashAttention-2, arXiv 2307.08691). A block computes one part of one kv head: each
// of its four warps has 32 packed rows and walks through the keys, 64 at a time, while the next 64 are on their way to
// the other half of shared memory. The softmax begins anew with every span of keys.
//
// A row's bits: keys past its position have weight 0 and change nothing, and no row sees another, so neither the tile
// that it shares nor where its slice begins can show.
#include "cuda/attention_forward.h"

#include <cmath>

#include "cuda/attention_call.h"
#include "cuda/attention_span.h"

namespace wideseek::cuda {
namespace {

constexpr int kKeys = 64;  // of a step
constexpr int kRowTiles = kTileRows / 16 / kAttentionWarps;
constexpr int kKeyColumns = kKeys / 8;

using Call = ForwardCall;

// Shared memory: queries, then two stages of keys and values, then merged spans if a block has several.
template <int D>
struct Layout {
  static constexpr uint32_t kQueryBytes = kTileRows * kRowBytes<D>, kKeyBytes = kKeys * kRowBytes<D>;
  static constexpr uint32_t kBytes = kQueryBytes + 4 * kKeyBytes;
  SharedAddress queries;
  __device__ SharedAddress keys(int stage) const { return queries + kQueryBytes + stage * 2 * kKeyBytes; }
  __device__ SharedAddress values(int stage) const { return keys(stage) + kKeyBytes; }
  using Merged = MergedSpans<D, kRowTiles, kAttentionThreads>;
  __device__ Merged merged() const { return {queries + kBytes}; }
};

// What a warp has of its rows; lane 4 g + t holds rows g and g + 8 of each row tile.
template <int D>
struct State {
  float sum[kRowTiles][D / 8][4];  // of weights times values
  float max[kRowTiles][2];         // of scores before scaling
  float total[kRowTiles][2];       // of this lane's weights
};

// Starts the copies of keys and values [first, first + 64) of the sequence; those from `end` on are zeros.
template <int D>
__device__ __forceinline__ void copy_keys(const Call& call, const Layout<D>& layout, const int32_t* table, int kv_head,
                                          int first, int end) {
  const int stage = first / kKeys % 2;
  copy_keys_and_values<D, kKeys>(layout.keys(stage), layout.values(stage), call.keys, call.values, call.heads, table,
                                 kv_head, first, end);
  commit_copies();
}

// Scores become weights 2^(scale_log2 (score - max)); what was summed with an older maximum shrinks.
template <int D>
__device__ __forceinline__ void weigh(float (&scores)[kRowTiles][kKeyColumns][4], State<D>& state, float scale_log2) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int half = 0; half < 2; ++half) {
      float max = state.max[i][half];
      WS_UNROLL
      for (int n = 0; n < kKeyColumns; ++n) max = fmaxf(max, fmaxf(scores[i][n][half * 2], scores[i][n][half * 2 + 1]));
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
      max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
      const float shrink = fast_exp2((state.max[i][half] - max) * scale_log2), shift = -max * scale_log2;
      state.max[i][half] = max;
      float total = state.total[i][half] * shrink;
      WS_UNROLL
      for (int n = 0; n < kKeyColumns; ++n) {
        WS_UNROLL
        for (int e = 0; e < 2; ++e) {
          float& score = scores[i][n][half * 2 + e];
          score = fast_exp2(__fmaf_rn(score, scale_log2, shift));
          total += score;
        }
      }
      state.total[i][half] = total;
      WS_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        state.sum[i][n][half * 2] *= shrink;
        state.sum[i][n][half * 2 + 1] *= shrink;
      }
    }
  }
}

// The packed rows of this block. Read again when they are needed again: registers are scarce in between.
__device__ __forceinline__ PackedRows block_rows(const Call& call) {
  const auto num_kv_heads = static_cast<unsigned>(call.heads.num_kv_heads);
  const QueryPart& part = call.parts[blockIdx.x / num_kv_heads];
  return {call.heads, part.row, part.num_rows, static_cast<int32_t>(blockIdx.x % num_kv_heads),
          part.members < 0 ? nullptr : call.tables + part.members};
}

template <int D>
__device__ __forceinline__ void start_span(State<D>& state) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    state.max[i][0] = state.max[i][1] = -INFINITY;
    state.total[i][0] = state.total[i][1] = 0;
  }
  set_zero(state.sum);
}

// Ends the span that goes to key `end`: the only one of the part, or one to merge with those before.
template <int D>
__device__ __forceinline__ void end_span(const Call& call, const Layout<D>& layout, State<D>& state, int end) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    add_lanes(state.total[i][0]);
    add_lanes(state.total[i][1]);
  }
  const QueryPart& part = call.parts[blockIdx.x / static_cast<unsigned>(call.heads.num_kv_heads)];
  const bool is_first = end <= part.first + kSpanKeys, is_last = end == part.end;
  if (is_first && is_last) return;
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    layout.merged().add(static_cast<int>(threadIdx.x), i, state.sum[i], state.max[i], state.total[i], is_first, is_last,
                        call.scale * kLog2E);
  }
}

// Divides by the totals, and writes out and lse of the warp's rows by way of the tile of queries.
template <int D>
__device__ __forceinline__ void finish(const Call& call, State<D>& state, SharedAddress tile) {
  const PackedRows rows = block_rows(call);
  const int lane = lane_id(), first_row = warp_id() * kRowTiles * 16;
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int half = 0; half < 2; ++half) {
      const RowTotal total{state.max[i][half], state.total[i][half]};
      const float factor = last_factor(total);
      WS_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        state.sum[i][n][half * 2] *= factor;
        state.sum[i][n][half * 2 + 1] *= factor;
      }
      const int row = first_row + i * 16 + half * 8 + lane / 4;
      if (call.lse != nullptr && lane % 4 == 0 && row < rows.num_rows)
        call.lse[rows.head_of(row)] = log_sum_exp(total, call.scale);
    }
  }
  store_rows<D>(state.sum, tile, [&](int row) {
    return first_row + row < rows.num_rows ? call.out + rows.element_of(first_row + row, call.heads.out_size(), D)
                                           : nullptr;
  });
}

template <int D>
__global__ void __launch_bounds__(kAttentionThreads, 2) forward_kernel(Call call) {
  const Layout<D> layout{dynamic_shared_address()};
  const auto num_kv_heads = static_cast<unsigned>(call.heads.num_kv_heads);
  const int kv_head = static_cast<int>(blockIdx.x % num_kv_heads);
  const QueryPart& part = call.parts[blockIdx.x / num_kv_heads];
  if (part.num_rows == 0) return;
  const int32_t* table = call.tables + part.table;
  const int position = part.position, end = part.end;
  {
    const PackedRows rows = block_rows(call);
    copy_rows<D, kTileRows>(layout.queries, call.qkv, [&](int row) {
      return row < rows.num_rows ? call.qkv + rows.element_of(row, call.heads.qkv_size(), D) : nullptr;
    });
  }
  copy_keys(call, layout, table, kv_head, part.first, end);

  const int first_row = warp_id() * kRowTiles * 16;
  const SharedAddress queries = layout.queries + static_cast<uint32_t>(first_row * kRowBytes<D>);
  const float scale_log2 = call.scale * kLog2E;
  State<D> state;
  start_span<D>(state);
  for (int first = part.first; first < end;) {
    const int span_end = first + kSpanKeys < end ? first + kSpanKeys : end;
    for (; first < span_end; first += kKeys) {
      wait_copies<0>();
      __syncthreads();  // all copies have arrived, and nobody reads the other stage any more
      if (first + kKeys < end) copy_keys(call, layout, table, kv_head, first + kKeys, end);
      const int stage = first / kKeys % 2;
      float scores[kRowTiles][kKeyColumns][4];
      product<D>(scores, queries, layout.keys(stage));
      if (first + kKeys - 1 > position) mask_later_keys(scores, call.heads, first_row, position - first, -INFINITY);
      weigh<D>(scores, state, scale_log2);
      add_product<D>(state.sum, scores, layout.values(stage));
    }
    end_span<D>(call, layout, state, span_end);
    if (span_end < end) start_span<D>(state);
  }
  if (part.partial < 0) {
    finish<D>(call, state, queries);
  } else {
    WS_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      store_partial<D>(call.partials, kv_head, part.partial, first_row + i * 16, part.num_rows * call.heads.group,
                       state.sum[i], state.max[i], state.total[i]);
    }
  }
}

template <int D>
constexpr int64_t shared_bytes(bool merges_spans) {
  return int64_t{Layout<D>::kBytes} + (merges_spans ? Layout<D>::Merged::kBytes : 0);
}

}  // namespace

int64_t tensor_forward_shared_bytes(int64_t head_dim, bool merges_spans) {
  return head_dim == 64 ? shared_bytes<64>(merges_spans) : shared_bytes<128>(merges_spans);
}

void tensor_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan, float* scratch) {
  run_forward_waves(
      stream, out, lse, qkv, cache, plan, scratch, [&](const Call& call, unsigned blocks, bool merges_inside) {
        const int64_t head_dim = call.heads.head_dim;
        launch(head_dim == 64 ? forward_kernel<64> : forward_kernel<128>,
               {blocks, kAttentionThreads, tensor_forward_shared_bytes(head_dim, merges_inside)}, stream, call);
      });
}

}  // namespace wideseek::cuda
