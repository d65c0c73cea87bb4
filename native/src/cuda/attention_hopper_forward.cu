// Attention with a running softmax in the order of FlashAttention-3 (arXiv 2407.08608). A block computes one part of
// one kv head: a warp brings keys and values, 128 a step, and each of two warpgroups has 64 packed rows. The scores of
// a step are computed while the last step's weights meet their values, and the two warpgroups take turns, so that one's
// exponentials run under the other's products. The softmax begins anew with every span of keys.
//
// A row's bits: as in attention_forward.cu.
#include "cuda/attention_hopper_forward.h"

#include <cmath>

#include "cuda/attention_call.h"
#include "cuda/attention_hopper.h"
#include "cuda/attention_span.h"

namespace wideseek::cuda {
namespace {

constexpr int kKeyColumns = kRingKeys / 8;
constexpr int kSpanSteps = kSpanKeys / kRingKeys;

using Call = ForwardCall;

// Shared memory: queries, then the ring of keys and values, then merged spans if a block has several.
template <int D>
struct Layout {
  using Merged = MergedSpans<D, 1, kConsumers * kWarpgroupThreads>;
  static constexpr uint32_t kQueryBytes = kTileRows * kRowBytes<D>, kBytes = kQueryBytes + KeyRing<D>::kBytes;
  SharedAddress queries;
  __device__ KeyRing<D> ring() const { return {queries + kQueryBytes}; }
  __device__ Merged merged() const { return {queries + kBytes}; }
};
static_assert(Layout<128>::kBytes + Layout<128>::Merged::kBytes <= 227 * 1024);

// Which part the block takes.
struct PartPlace {
  int kv_head;
  const QueryPart& part;

  __device__ __forceinline__ PartPlace(const Call& call)
      : kv_head(static_cast<int>(blockIdx.x % static_cast<unsigned>(call.heads.num_kv_heads))),
        part(call.parts[blockIdx.x / static_cast<unsigned>(call.heads.num_kv_heads)]) {}
  __device__ __forceinline__ int first() const { return part.first; }
  __device__ __forceinline__ int end() const { return part.end; }
  __device__ __forceinline__ int table() const { return part.table; }
  __device__ __forceinline__ int length() const { return part.length; }
  __device__ __forceinline__ PackedRows rows(const Call& call) const {
    return {call.heads, part.row, part.num_rows, kv_head, part.members < 0 ? nullptr : call.tables + part.members};
  }
  // Warpgroups that have rows.
  __device__ __forceinline__ int consumers(const Heads& heads) const {
    return part.num_rows * heads.group <= kProductRows ? 1 : kConsumers;
  }
};

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
__device__ __forceinline__ void finish(const Call& call, const PartPlace& place, State<D>& state, SharedAddress queries,
                                       int first_row) {
  const PackedRows rows = place.rows(call);
  const int lane = lane_id();
  float factor[2];
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    const RowTotal total{state.max[half], state.total[half]};
    factor[half] = last_factor(total);
    const int row = first_row + half * 8 + lane / 4;
    if (call.lse != nullptr && lane % 4 == 0 && row < rows.num_rows)
      call.lse[rows.head_of(row)] = log_sum_exp(total, call.scale);
  }
  scale_sum(state, factor);
  store_rows<D>(state.sum, queries + static_cast<uint32_t>(first_row * kRowBytes<D>), [&](int row) {
    return first_row + row < rows.num_rows ? call.out + rows.element_of(first_row + row, call.heads.out_size(), D)
                                           : nullptr;
  });
}

// Takes the totals of a span out of the state for those of the next.
template <int D>
__device__ __forceinline__ void start_totals(State<D>& state, float (&max)[2], float (&total)[2]) {
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    max[half] = state.max[half];
    total[half] = state.total[half];
    add_lanes(total[half]);
    state.max[half] = -INFINITY;
    state.total[half] = 0;
  }
}

// Rows [64 consumer, 64 consumer + 64) of the tile, by one warpgroup.
template <int D>
__device__ __forceinline__ void attend(const Call& call, const Layout<D>& layout, const PartPlace& place,
                                       int consumer) {
  const KeyRing<D> ring = layout.ring();
  // The keys of a step count from the part's first.
  const int position = place.part.position - place.first(), steps = ceil_div(place.end() - place.first(), kRingKeys);
  const int first_row = consumer * kProductRows + warp_of_group() * 16;
  const SharedAddress queries = layout.queries + static_cast<uint32_t>(consumer * kProductRows * kRowBytes<D>);
  if (consumer >= place.consumers(call.heads)) return;
  const bool takes_turns = place.consumers(call.heads) == kConsumers && steps > 1;
  copy_query_rows<D>(queries, call.qkv, place.rows(call), call.heads.qkv_size(), consumer);
  show_copies(consumer);

  const float scale_log2 = call.scale * kLog2E;
  const int thread = consumer * kWarpgroupThreads + static_cast<int>(threadIdx.x) % kWarpgroupThreads;
  State<D> state{{}, {-INFINITY, -INFINITY}, {0, 0}};
  float scores[1][kKeyColumns][4], shrink[2];
  uint32_t weights[kKeyColumns / 2][4];
  wait_phase(ring.full_keys(0), 0);
  fence_products(scores[0]);
  issue_product_of_rows<D>(scores[0], queries, ring.keys(0));
  commit_products();
  wait_products<0>(scores[0]);
  release(ring.empty_keys(0));
  if (kRingKeys - 1 > position) mask_later_keys(scores, call.heads, first_row, position, -INFINITY);
  weigh<D>(scores[0], state, shrink, scale_log2);
  pack_operand(weights, scores[0]);
  if (takes_turns && consumer == 1) give_turn(0);
  for (int step = 1; step < steps; ++step) {
    const int stage = step % kRingStages, last_stage = (step - 1) % kRingStages;
    wait_phase(ring.full_keys(stage), step / kRingStages);
    if (takes_turns) wait_turn(consumer);
    fence_products(scores[0]);
    issue_product_of_rows<D>(scores[0], queries, ring.keys(stage));
    commit_products();
    wait_phase(ring.full_values(last_stage), (step - 1) / kRingStages);
    fence_products(state.sum[0], weights);
    issue_product_of_columns<D>(state.sum[0], weights, ring.values(last_stage));
    commit_products();
    // The last turn of all would be given to nobody.
    if (takes_turns && (consumer == 0 || step + 1 < steps)) give_turn(1 - consumer);
    wait_products<1>(scores[0]);
    release(ring.empty_keys(stage));
    if ((step + 1) * kRingKeys - 1 > position)
      mask_later_keys(scores, call.heads, first_row, position - step * kRingKeys, -INFINITY);
    const bool starts_span = step % kSpanSteps == 0;
    float max[2], total[2];  // of the span that ends, if one does
    if (starts_span) start_totals(state, max, total);
    weigh<D>(scores[0], state, shrink, scale_log2);
    compute_before_wait(state.total[0] + state.total[1], queries);
    wait_products<0>(state.sum[0], weights);
    release(ring.empty_values(last_stage));
    if (starts_span) {
      layout.merged().add(thread, 0, state.sum[0], max, total, step == kSpanSteps, false, scale_log2);
      set_zero(state.sum);
    } else {
      scale_sum(state, shrink);
    }
    pack_operand(weights, scores[0]);
  }
  const int last_stage = (steps - 1) % kRingStages;
  wait_phase(ring.full_values(last_stage), (steps - 1) / kRingStages);
  fence_products(state.sum[0], weights);
  issue_product_of_columns<D>(state.sum[0], weights, ring.values(last_stage));
  commit_products();
  wait_products<0>(state.sum[0], weights);
  sync_consumer(consumer);  // nobody reads the queries any more
  add_lanes(state.total[0]);
  add_lanes(state.total[1]);
  if (steps > kSpanSteps) layout.merged().add(thread, 0, state.sum[0], state.max, state.total, false, true, scale_log2);
  if (place.part.partial < 0) {
    finish<D>(call, place, state, layout.queries, first_row);
  } else {
    store_partial<D>(call.partials, place.kv_head, place.part.partial, first_row,
                     place.part.num_rows * call.heads.group, state.sum[0], state.max, state.total);
  }
}

template <int D>
__global__ void __launch_bounds__(kHopperThreads, 1) forward_kernel(Call call) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  if (kHasWgmma) {
    const Layout<D> layout{operand_shared_address()};
    const PartPlace place(call);
    if (place.part.num_rows == 0) return;
    if (threadIdx.x == 0) layout.ring().start_barriers(place.consumers(call.heads));
    __syncthreads();
    const int group = warpgroup_id();
    if (group == 0) {
      shrink_registers<kProducerRegisters>();
      if (warp_id() == 0) bring_keys_and_values(layout.ring(), call.keys, call.values, call.heads, call.tables, place);
    } else {
      grow_registers<kConsumerRegisters>();
      attend<D>(call, layout, place, group - 1);
    }
  }
}

template <int D>
constexpr int64_t shared_bytes(bool merges_spans) {
  return int64_t{Layout<D>::kBytes} + (merges_spans ? Layout<D>::Merged::kBytes : 0);
}

}  // namespace

void hopper_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan, float* scratch) {
  run_forward_waves(
      stream, out, lse, qkv, cache, plan, scratch, [&](const Call& call, unsigned blocks, bool merges_inside) {
        if (call.heads.head_dim == 64) {
          launch_early(forward_kernel<64>, {blocks, kHopperThreads, shared_bytes<64>(merges_inside)}, stream, call);
        } else {
          launch_early(forward_kernel<128>, {blocks, kHopperThreads, shared_bytes<128>(merges_inside)}, stream, call);
        }
      });
}

}  // namespace wideseek::cuda
