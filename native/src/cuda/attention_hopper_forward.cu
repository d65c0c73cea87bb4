// Attention with a running softmax in the order of FlashAttention-3 (arXiv 2407.08608). A block computes one query tile
// of one kv head: a warp brings keys and values, 128 a step from position 0, and each of two warpgroups has 64 packed
// rows. The scores of a step are computed while the last step's weights meet their values, and the two warpgroups take
// turns, so that one's exponentials run under the other's products.
//
// A row's bits: as in attention_forward.cu.
#include "cuda/attention_hopper_forward.h"

#include <cmath>

#include "cuda/attention_hopper.h"

namespace wideseek::cuda {
namespace {

constexpr int kKeys = 128;  // of a step
constexpr int kStages = 2;
constexpr int kStepBlocks = kKeys / kBlockKeys;
constexpr int kKeyColumns = kKeys / 8;

struct Call {
  BF16* out;
  float* lse;
  const BF16* qkv;
  const BF16* keys;
  const BF16* values;
  const QueryTile* tiles;
  const int32_t* tables;
  Heads heads;
  float scale;
};

// Shared memory: queries, the stages of keys and values, and for each of both a barrier that tells that it is full and
// one that it is empty.
template <int D>
struct Layout {
  static constexpr uint32_t kQueryBytes = kTileRows * kRowBytes<D>, kKeyBytes = kKeys * kRowBytes<D>,
                            kBarriersAt = kQueryBytes + 2 * kStages * kKeyBytes, kBytes = kBarriersAt + 4 * kStages * 8;
  SharedAddress queries;
  __device__ SharedAddress keys(int stage) const { return queries + kQueryBytes + stage * 2 * kKeyBytes; }
  __device__ SharedAddress values(int stage) const { return keys(stage) + kKeyBytes; }
  __device__ SharedAddress full_keys(int stage) const { return queries + kBarriersAt + stage * 8; }
  __device__ SharedAddress empty_keys(int stage) const { return full_keys(stage) + kStages * 8; }
  __device__ SharedAddress full_values(int stage) const { return full_keys(stage) + 2 * kStages * 8; }
  __device__ SharedAddress empty_values(int stage) const { return full_keys(stage) + 3 * kStages * 8; }
};

// Where the block is.
struct Place {
  int kv_head;
  const QueryTile& tile;

  __device__ __forceinline__ explicit Place(const Call& call)
      : kv_head(static_cast<int>(blockIdx.x % static_cast<unsigned>(call.heads.num_kv_heads))),
        tile(call.tiles[blockIdx.x / static_cast<unsigned>(call.heads.num_kv_heads)]) {}
  // No row of the tile attends to keys from here on.
  __device__ __forceinline__ int end() const { return tile.position + tile.num_rows; }
  __device__ __forceinline__ PackedRows rows(const Call& call) const {
    return {call.heads, tile.row, tile.num_rows, kv_head};
  }
};

// By one warp.
template <int D>
__device__ __forceinline__ void bring_keys_and_values(const Call& call, const Layout<D>& layout) {
  const Place place(call);
  const int end = place.end(), kv_head = place.kv_head;
  const int32_t* table = call.tables + place.tile.table;
  for (int step = 0; step * kKeys < end; ++step, table += kStepBlocks) {
    const int stage = step % kStages, left = end - step * kKeys;
    wait_phase(layout.empty_keys(stage), step / kStages - 1);
    copy_blocks<D>(layout.keys(stage), call.keys, call.heads, table,
                   left < kKeys ? ceil_div(left, kBlockKeys) : kStepBlocks, kv_head, layout.full_keys(stage));
    wait_phase(layout.empty_values(stage), step / kStages - 1);
    const int whole = left < kKeys ? left / kBlockKeys : kStepBlocks;
    if (whole < kStepBlocks) {
      copy_last_rows<D, kKeys>(layout.values(stage), call.values, call.heads, table, whole * kBlockKeys, left, kv_head);
    }
    copy_blocks<D>(layout.values(stage), call.values, call.heads, table, whole, kv_head, layout.full_values(stage));
  }
}

// What a warp has of its 16 rows; lane 4 g + t holds rows g and g + 8.
template <int D>
struct State {
  float sum[1][D / 8][4];  // of weights times values
  float max[2];            // of scores before scaling
  float total[2];          // of this lane's weights
};

// Scores become weights 2^(scale_log2 (score - max)); returns in `shrink` by what the sum of older ones shrinks.
template <int D>
__device__ __forceinline__ void weigh(float (&scores)[kKeyColumns][4], State<D>& state, float (&shrink)[2],
                                      float scale_log2) {
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    float max = state.max[half];
    WS_UNROLL
    for (int n = 0; n < kKeyColumns; ++n) max = fmaxf(max, fmaxf(scores[n][half * 2], scores[n][half * 2 + 1]));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
    shrink[half] = fast_exp2((state.max[half] - max) * scale_log2);
    const float shift = -max * scale_log2;
    state.max[half] = max;
    float totals[2] = {state.total[half] * shrink[half], 0};
    WS_UNROLL
    for (int n = 0; n < kKeyColumns; ++n) {
      WS_UNROLL
      for (int e = 0; e < 2; ++e) {
        float& score = scores[n][half * 2 + e];
        score = fast_exp2(__fmaf_rn(score, scale_log2, shift));
        totals[e] += score;
      }
    }
    state.total[half] = totals[0] + totals[1];
  }
}

template <int D>
__device__ __forceinline__ void scale_sum(State<D>& state, const float (&factor)[2]) {
  WS_UNROLL
  for (int n = 0; n < D / 8; ++n) {
    WS_UNROLL
    for (int e = 0; e < 4; ++e) state.sum[0][n][e] *= factor[e / 2];
  }
}

// Divides by the totals, and writes out and lse of the warp's rows by way of the tile of queries.
template <int D>
__device__ __forceinline__ void finish(const Call& call, State<D>& state, SharedAddress queries, int first_row) {
  const Place place(call);
  const PackedRows rows = place.rows(call);
  const int lane = lane_id();
  float factor[2];
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    float total = state.total[half];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    factor[half] = 1.0f / total;
    const int row = first_row + half * 8 + lane / 4;
    if (call.lse != nullptr && lane % 4 == 0 && row < rows.num_rows)
      call.lse[rows.head_of(row)] = __fmaf_rn(state.max[half], call.scale, logf(total));
  }
  scale_sum(state, factor);
  store_rows<D>(state.sum, queries + static_cast<uint32_t>(first_row * kRowBytes<D>), [&](int row) {
    return first_row + row < rows.num_rows ? call.out + rows.element_of(first_row + row, call.heads.out_size(), D)
                                           : nullptr;
  });
}

// Rows [64 consumer, 64 consumer + 64) of the tile, by one warpgroup.
template <int D>
__device__ __forceinline__ void attend(const Call& call, const Layout<D>& layout, int consumer) {
  const Place place(call);
  const int position = place.tile.position, steps = ceil_div(place.end(), kKeys);
  const SharedAddress queries = layout.queries + static_cast<uint32_t>(consumer * kProductRows * kRowBytes<D>);
  const int first_row = consumer * kProductRows + warp_of_group() * 16;
  bool takes_turns;
  {
    const PackedRows rows = place.rows(call);
    if (consumer * kProductRows >= rows.num_rows) return;
    takes_turns = rows.num_rows > kProductRows && steps > 1;
    copy_operand_rows<D, kProductRows, kWarpgroupThreads>(
        queries, call.qkv, static_cast<int>(threadIdx.x) % kWarpgroupThreads, [&](int row) {
          row += consumer * kProductRows;
          return row < rows.num_rows ? call.qkv + rows.element_of(row, call.heads.qkv_size(), D) : nullptr;
        });
  }
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  sync_consumer(consumer);

  const float scale_log2 = call.scale * kLog2E;
  State<D> state{{}, {-INFINITY, -INFINITY}, {0, 0}};
  float scores[1][kKeyColumns][4], shrink[2];
  uint32_t weights[kKeyColumns / 2][4];
  wait_phase(layout.full_keys(0), 0);
  fence_products(scores[0]);
  issue_product_of_rows<D>(scores[0], queries, layout.keys(0));
  commit_products();
  wait_products<0>(scores[0]);
  release(layout.empty_keys(0));
  if (kKeys - 1 > position) mask_later_keys(scores, call.heads, first_row, position);
  weigh<D>(scores[0], state, shrink, scale_log2);
  pack_operand(weights, scores[0]);
  if (takes_turns && consumer == 1) give_turn(0);
  for (int step = 1; step < steps; ++step) {
    const int stage = step % kStages, last_stage = (step - 1) % kStages;
    wait_phase(layout.full_keys(stage), step / kStages);
    if (takes_turns) wait_turn(consumer);
    fence_products(scores[0]);
    issue_product_of_rows<D>(scores[0], queries, layout.keys(stage));
    commit_products();
    wait_phase(layout.full_values(last_stage), (step - 1) / kStages);
    fence_products(state.sum[0], weights);
    issue_product_of_columns<D>(state.sum[0], weights, layout.values(last_stage));
    commit_products();
    // The last turn of all would be given to nobody.
    if (takes_turns && (consumer == 0 || step + 1 < steps)) give_turn(1 - consumer);
    wait_products<1>(scores[0]);
    release(layout.empty_keys(stage));
    if ((step + 1) * kKeys - 1 > position) mask_later_keys(scores, call.heads, first_row, position - step * kKeys);
    weigh<D>(scores[0], state, shrink, scale_log2);
    wait_products<0>(state.sum[0], weights);
    release(layout.empty_values(last_stage));
    scale_sum(state, shrink);
    pack_operand(weights, scores[0]);
  }
  const int last_stage = (steps - 1) % kStages;
  wait_phase(layout.full_values(last_stage), (steps - 1) / kStages);
  fence_products(state.sum[0], weights);
  issue_product_of_columns<D>(state.sum[0], weights, layout.values(last_stage));
  commit_products();
  wait_products<0>(state.sum[0], weights);
  sync_consumer(consumer);  // nobody reads the queries any more
  finish<D>(call, state, layout.queries, first_row);
}

template <int D>
__device__ __forceinline__ void start_barriers(const Call& call, const Layout<D>& layout) {
  const bool is_half = Place(call).rows(call).num_rows <= kProductRows;  // then one warpgroup has no rows
  const int readers = (is_half ? 1 : kConsumers) * kWarpgroupThreads / 32;
  for (int stage = 0; stage < kStages; ++stage) {
    init_mbarrier(layout.full_keys(stage), 1);
    init_mbarrier(layout.full_values(stage), 1);
    init_mbarrier(layout.empty_keys(stage), readers);
    init_mbarrier(layout.empty_values(stage), readers);
  }
  publish_mbarriers();
}

template <int D>
__global__ void __launch_bounds__(kHopperThreads, 1) forward_kernel(Call call) {
  if (kHasWgmma) {
    const Layout<D> layout{operand_shared_address()};
    if (threadIdx.x == 0) start_barriers<D>(call, layout);
    __syncthreads();
    const int group = warpgroup_id();
    if (group == 0) {
      shrink_registers<kProducerRegisters>();
      if (warp_id() == 0) bring_keys_and_values<D>(call, layout);
    } else {
      grow_registers<kConsumerRegisters>();
      attend<D>(call, layout, group - 1);
    }
  }
}

}  // namespace

void hopper_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan) {
  const Heads& heads = plan.heads();
  const Call call{static_cast<BF16*>(out.data),
                  lse,
                  static_cast<const BF16*>(qkv.data),
                  static_cast<const BF16*>(cache.keys.data),
                  static_cast<const BF16*>(cache.values.data),
                  plan.query_tiles().tiles,
                  plan.query_tiles().tables,
                  heads,
                  1.0f / std::sqrt(static_cast<float>(heads.head_dim))};
  const auto blocks = static_cast<unsigned>(plan.query_tiles().num_tiles * heads.num_kv_heads);
  if (heads.head_dim == 64) {
    launch(forward_kernel<64>, {blocks, kHopperThreads, Layout<64>::kBytes}, stream, call);
  } else {
    launch(forward_kernel<128>, {blocks, kHopperThreads, Layout<128>::kBytes}, stream, call);
  }
}

}  // namespace wideseek::cuda
