// Gradients of attention as in attention_backward.cu, by warpgroups: a block of either kernel is a warpgroup that
// brings operands and two that compute. Neither computing one waits for the other, so that the exponentials of one run
// under the products of the other.
#include "cuda/attention_hopper_backward.h"

#include "cuda/attention_gradient.h"
#include "cuda/attention_hopper.h"

namespace wideseek::cuda {
namespace {

using Call = GradientCall;

// ---- dk and dv. A block takes a key tile of one kv head, each computing warpgroup 64 keys of it, and the scores are
// transposed: a warpgroup's weights are in the registers where the next product wants them.

// Bringing rows takes more registers than bringing blocks.
constexpr int kRowProducerRegisters = 56, kRowConsumerRegisters = 224;

// What a stage says of its rows, 16 bytes.
struct StepNote {
  uint32_t position, in_group, is_last, unused;
};

// Shared memory: keys and values, the stages of queries, their dout, statistics and note, and the barriers.
template <int D>
struct KeyLayout {
  static constexpr int kStages = 4;
  static constexpr uint32_t kKeyBytes = kConsumers * kProductRows * kRowBytes<D>,
                            kRowTileBytes = kStepRows * kRowBytes<D>, kStageBytes = 2 * kRowTileBytes,
                            kStatisticBytes = kStepRows * sizeof(RowStatistic),
                            kStatisticsAt = 2 * kKeyBytes + kStages * kStageBytes,
                            kNotesAt = kStatisticsAt + kStages * kStatisticBytes,
                            kBarriersAt = kNotesAt + kStages * sizeof(StepNote),
                            kBytes = kBarriersAt + (2 * kStages + 1) * 8;
  SharedAddress keys;
  __device__ SharedAddress values() const { return keys + kKeyBytes; }
  __device__ SharedAddress queries(int stage) const { return keys + 2 * kKeyBytes + stage * kStageBytes; }
  __device__ SharedAddress dout(int stage) const { return queries(stage) + kRowTileBytes; }
  __device__ SharedAddress statistics(int stage) const { return keys + kStatisticsAt + stage * kStatisticBytes; }
  __device__ SharedAddress note(int stage) const {
    return keys + kNotesAt + stage * static_cast<uint32_t>(sizeof(StepNote));
  }
  __device__ SharedAddress full(int stage) const { return keys + kBarriersAt + stage * 8; }
  __device__ SharedAddress empty(int stage) const { return full(stage) + kStages * 8; }
  __device__ SharedAddress full_keys() const { return keys + kBarriersAt + 2 * kStages * 8; }
};

// Where the block is.
struct KeyPlace {
  int64_t number;
  int kv_head;
  const KeyTile& tile;

  __device__ __forceinline__ KeyPlace(const Call& call, const KeyTiles& lists)
      : number(blockIdx.x / static_cast<unsigned>(call.heads.num_kv_heads)),
        kv_head(static_cast<int>(blockIdx.x % static_cast<unsigned>(call.heads.num_kv_heads))),
        tile(lists.tiles[number]) {}
};

// By a warpgroup: starts the copies of a step.
template <int D>
__device__ __forceinline__ void bring_step(const Call& call, const KeyLayout<D>& layout, const QueryRange& range,
                                           const Step& step, bool is_last, int kv_head, int stage) {
  constexpr int kRows = kWarpgroupThreads / kRowChunks<D>;  // at a time
  static_assert(kStepRows % kRows == 0 && kRows % 8 == 0);
  const int skipped = step.begin / call.heads.group, in_group = step.begin - skipped * call.heads.group;
  const PackedRows rows(call.heads, range.row + skipped, range.num_rows - skipped, kv_head);
  const int thread = static_cast<int>(threadIdx.x), first = thread / kRowChunks<D>, chunk = thread % kRowChunks<D>;
  SharedAddress to = layout.queries(stage) + static_cast<uint32_t>(operand_chunk<D>(first, chunk) * 16);
  // Rolled up: the few registers would not do for the addresses of several rows.
  WS_ROLLED
  for (int row = in_group + first; row < in_group + kStepRows; row += kRows) {
    const bool valid = row < rows.num_rows;
    const int64_t query = valid ? rows.element_of(row, call.heads.qkv_size(), D) + chunk * 8 : 0;
    const int64_t gradient = valid ? rows.element_of(row, call.heads.out_size(), D) + chunk * 8 : 0;
    copy_async<16>(to, call.qkv + query, valid);
    copy_async<16>(to + KeyLayout<D>::kRowTileBytes, call.dout + gradient, valid);
    to += kRows * kRowBytes<D>;
  }
  if (thread < kStepRows) {
    const bool valid = in_group + thread < rows.num_rows;
    copy_async<sizeof(RowStatistic)>(
        layout.statistics(stage) + static_cast<uint32_t>(thread) * static_cast<uint32_t>(sizeof(RowStatistic)),
        call.statistics + (valid ? rows.head_of(in_group + thread) : 0), valid);
  }
  commit_copies();
  if (thread == 0) {
    store_shared(layout.note(stage), static_cast<uint32_t>(range.position + skipped));
    store_shared(layout.note(stage) + 4, static_cast<uint32_t>(in_group));
    store_shared(layout.note(stage) + 8, is_last ? 1 : 0);
  }
}

// By a warpgroup: brings the keys and values, and all rows that attend to them, the copies of one step running ahead of
// what is reported.
template <int D>
__device__ __forceinline__ void bring_rows(const Call& call, const KeyLayout<D>& layout, const KeyTiles& lists) {
  constexpr int kStages = KeyLayout<D>::kStages;
  const KeyPlace place(call, lists);
  if (warp_id() == 0) {
    const int blocks = ceil_div(place.tile.num_keys, kBlockKeys);
    copy_blocks<D>(layout.keys, call.keys, call.heads, place.tile.blocks, blocks, place.kv_head, layout.full_keys());
    copy_blocks<D>(layout.values(), call.values, call.heads, place.tile.blocks, blocks, place.kv_head,
                   layout.full_keys());
  }
  const auto report = [&](int number) {
    fence_async_proxy();
    release(layout.full(number % kStages));
  };
  const int last_range = place.tile.first_range + place.tile.num_ranges - 1;
  Step step{place.tile.first_range, 0};
  int number = 0;
  for (bool goes_on = true; goes_on; ++number) {
    const Step now = step;
    goes_on = step.advance(lists, last_range, call.heads.group);
    wait_phase(layout.empty(number % kStages), number / kStages - 1);
    bring_step<D>(call, layout, lists.ranges[now.range], now, !goes_on, place.kv_head, number % kStages);
    if (number > 0) {
      wait_copies<1>();
      report(number - 1);
    }
  }
  wait_copies<0>();
  report(number - 1);
}

// Keys [64 consumer, 64 consumer + 64) of the tile, by one warpgroup.
template <int D>
__device__ __forceinline__ void sum_over_rows(const Call& call, const KeyLayout<D>& layout, const KeyTiles& lists,
                                              int consumer) {
  constexpr int kStages = KeyLayout<D>::kStages;
  const int first_row = consumer * kProductRows + warp_of_group() * 16;
  int first_key, last_key;
  {
    const KeyPlace place(call, lists);
    if (consumer * kProductRows >= place.tile.num_keys) return;
    first_key = place.tile.position + first_row;
    last_key = place.tile.position + consumer * kProductRows + kProductRows - 1;
  }
  const SharedAddress own_keys = layout.keys + static_cast<uint32_t>(consumer * kProductRows * kRowBytes<D>),
                      own_values = layout.values() + static_cast<uint32_t>(consumer * kProductRows * kRowBytes<D>);
  float dk[1][D / 8][4], dv[1][D / 8][4];
  set_zero(dk);
  set_zero(dv);
  wait_phase(layout.full_keys(), 0);
  float weights[1][kRowColumns][4], gradients[1][kRowColumns][4];
  uint32_t operand[kRowColumns / 2][4], gradient_operand[kRowColumns / 2][4];
  const auto issue_scores = [&](int number) {
    const int stage = number % kStages;
    wait_phase(layout.full(stage), number / kStages);
    fence_products(weights[0]);
    issue_product_of_rows<D>(weights[0], own_keys, layout.queries(stage));
    commit_products();
  };
  const auto issue_gradients = [&](int stage) {
    fence_products(gradients[0]);
    issue_product_of_rows<D>(gradients[0], own_values, layout.dout(stage));
    commit_products();
  };
  // Makes operands of both, once they are there. Returns whether that was the last step.
  const auto differentiate_scores = [&](int stage) {
    const uint4 note = load_shared_16(layout.note(stage));
    const StepStart start{static_cast<int>(note.x), static_cast<int>(note.y)};
    wait_products<1>(weights[0]);
    weigh(weights, layout.statistics(stage), call, start, first_key, last_key);
    wait_products<0>(gradients[0]);
    differentiate(gradients, weights, layout.statistics(stage));
    pack_operand(operand, weights[0]);
    pack_operand(gradient_operand, gradients[0]);
    return note.z != 0;
  };
  const auto issue_sums = [&](int stage) {
    fence_products(dk[0], dv[0], operand, gradient_operand);
    issue_product_of_columns<D>(dv[0], operand, layout.dout(stage));
    issue_product_of_columns<D>(dk[0], gradient_operand, layout.queries(stage));
    commit_products();
  };
  issue_scores(0);
  issue_gradients(0);
  int number = 0;
  for (bool is_last = differentiate_scores(0); !is_last; ++number) {
    const int stage = number % kStages, next_stage = (number + 1) % kStages;
    issue_sums(stage);
    // Behind them at once, so that the tensor cores do not wait for this step's end; of all products of the next step
    // there are not registers enough.
    issue_scores(number + 1);
    wait_products<1>(dk[0], dv[0], operand, gradient_operand);
    release(layout.empty(stage));
    issue_gradients(next_stage);
    is_last = differentiate_scores(next_stage);
  }
  issue_sums(number % kStages);
  wait_products<0>(dk[0], dv[0], operand, gradient_operand);
  sync_consumer(consumer);  // nobody reads the keys and values any more
  scale_by(dk, call.scale);
  const KeyPlace place(call, lists);
  const int32_t* rows = lists.key_rows + place.number * lists.tile_keys + first_row;
  const auto own = static_cast<uint32_t>(first_row * kRowBytes<D>);
  BF16* to = call.dqkv + int64_t{call.heads.num_heads + place.kv_head} * D;
  store_rows<D>(dk, layout.keys + own,
                [&](int row) { return rows[row] < 0 ? nullptr : to + rows[row] * call.heads.qkv_size(); });
  to += int64_t{call.heads.num_kv_heads} * D;
  store_rows<D>(dv, layout.values() + own,
                [&](int row) { return rows[row] < 0 ? nullptr : to + rows[row] * call.heads.qkv_size(); });
}

template <int D>
__device__ __forceinline__ void start_barriers(const KeyLayout<D>& layout, int num_keys) {
  const int readers = (num_keys <= kProductRows ? 1 : kConsumers) * kWarpgroupThreads / 32;
  for (int stage = 0; stage < KeyLayout<D>::kStages; ++stage) {
    init_mbarrier(layout.full(stage), kWarpgroupThreads / 32);
    init_mbarrier(layout.empty(stage), readers);
  }
  init_mbarrier(layout.full_keys(), 2);  // keys, and values
  publish_mbarriers();
}

template <int D>
__global__ void __launch_bounds__(kHopperThreads, 1) key_gradient_kernel(Call call, KeyTiles lists) {
  if (kHasWgmma) {
    const KeyLayout<D> layout{operand_shared_address()};
    if (threadIdx.x == 0) start_barriers<D>(layout, KeyPlace(call, lists).tile.num_keys);
    __syncthreads();
    const int group = warpgroup_id();
    if (group == 0) {
      shrink_registers<kRowProducerRegisters>();
      bring_rows<D>(call, layout, lists);
    } else {
      grow_registers<kRowConsumerRegisters>();
      sum_over_rows<D>(call, layout, lists, group - 1);
    }
  }
}

// ---- dq. A block takes a query tile as the forward pass does.

// Shared memory: queries, dout, then the ring of keys and values.
template <int D>
struct QueryLayout {
  static constexpr uint32_t kQueryBytes = kTileRows * kRowBytes<D>, kBytes = 2 * kQueryBytes + KeyRing<D>::kBytes;
  SharedAddress queries;
  __device__ SharedAddress dout() const { return queries + kQueryBytes; }
  __device__ KeyRing<D> ring() const { return {queries + 2 * kQueryBytes}; }
};

// Rows [64 consumer, 64 consumer + 64) of the tile, by one warpgroup.
template <int D>
__device__ __forceinline__ void sum_over_keys(const Call& call, const QueryLayout<D>& layout, const QueryPlace& place,
                                              int consumer) {
  const KeyRing<D> ring = layout.ring();
  const int position = place.tile.position, end = place.end();
  const int first_row = consumer * kProductRows + warp_of_group() * 16;
  const auto own = static_cast<uint32_t>(consumer * kProductRows * kRowBytes<D>);
  const SharedAddress queries = layout.queries + own, dout = layout.dout() + own;
  RowStatistic statistics[1][2];
  {
    const PackedRows rows = place.rows(call.heads);
    if (consumer * kProductRows >= rows.num_rows) return;
    load_statistics(statistics, call, rows, first_row);
    copy_query_rows<D>(queries, call.qkv, rows, call.heads.qkv_size(), consumer);
    copy_query_rows<D>(dout, call.dout, rows, call.heads.out_size(), consumer);
  }
  show_copies(consumer);
  float dq[1][D / 8][4], scores[1][kRingKeys / 8][4], gradients[1][kRingKeys / 8][4];
  uint32_t operand[kRingKeys / 16][4];
  set_zero(dq);
  const auto issue_scores = [&](int step) {
    const int stage = step % kRingStages;
    wait_phase(ring.full_keys(stage), step / kRingStages);
    fence_products(scores[0]);
    issue_product_of_rows<D>(scores[0], queries, ring.keys(stage));
    commit_products();
  };
  const auto issue_gradients = [&](int step) {
    const int stage = step % kRingStages;
    wait_phase(ring.full_values(stage), step / kRingStages);
    fence_products(gradients[0]);
    issue_product_of_rows<D>(gradients[0], dout, ring.values(stage));
    commit_products();
  };
  // Makes the operand of both, once they are there.
  const auto differentiate_scores = [&](int step) {
    wait_products<1>(scores[0]);
    // Masked after it is weighed: the branch keeps the wait below from moving ahead of this arithmetic, which runs
    // under the second product.
    weigh(scores, statistics, call.scale * kLog2E);
    if ((step + 1) * kRingKeys - 1 > position)
      mask_later_keys(scores, call.heads, first_row, position - step * kRingKeys, 0);
    wait_products<0>(gradients[0]);
    release(ring.empty_values(step % kRingStages));
    differentiate(scores, gradients, statistics);
    pack_operand(operand, scores[0]);
  };
  const auto issue_sum = [&](int step) {
    fence_products(dq[0], operand);
    issue_product_of_columns<D>(dq[0], operand, ring.keys(step % kRingStages));
    commit_products();
  };
  issue_scores(0);
  issue_gradients(0);
  differentiate_scores(0);
  int step = 0;
  for (; (step + 1) * kRingKeys < end; ++step) {
    issue_sum(step);
    issue_scores(step + 1);  // behind it at once, as in the kernel above
    wait_products<1>(dq[0], operand);
    release(ring.empty_keys(step % kRingStages));
    issue_gradients(step + 1);
    differentiate_scores(step + 1);
  }
  issue_sum(step);
  wait_products<0>(dq[0], operand);
  sync_consumer(consumer);  // nobody reads the queries any more
  scale_by(dq, call.scale);
  const PackedRows rows = place.rows(call.heads);
  store_rows<D>(dq, layout.queries + static_cast<uint32_t>(first_row * kRowBytes<D>), [&](int row) {
    return first_row + row < rows.num_rows ? call.dqkv + rows.element_of(first_row + row, call.heads.qkv_size(), D)
                                           : nullptr;
  });
}

template <int D>
__global__ void __launch_bounds__(kHopperThreads, 1)
    query_gradient_kernel(Call call, const QueryTile* tiles, const int32_t* tables) {
  if (kHasWgmma) {
    const QueryLayout<D> layout{operand_shared_address()};
    const QueryPlace place(call.heads, tiles);
    if (threadIdx.x == 0) layout.ring().start_barriers(place.consumers(call.heads));
    __syncthreads();
    const int group = warpgroup_id();
    if (group == 0) {
      shrink_registers<kProducerRegisters>();
      if (warp_id() == 0) bring_keys_and_values(layout.ring(), call.keys, call.values, call.heads, tables, place);
    } else {
      grow_registers<kConsumerRegisters>();
      sum_over_keys<D>(call, layout, place, group - 1);
    }
  }
}

template <int D>
void launch_kernels(Stream stream, const Call& call, const CudaAttentionPlan& plan) {
  const QueryTiles& query_tiles = plan.query_tiles();
  const KeyTiles& key_tiles = plan.key_tiles();
  WS_CHECK(key_tiles.tile_keys == kConsumers * kProductRows, kInternal, "attention", "key tiles are of another device");
  const auto blocks = [&](int64_t tiles) { return static_cast<unsigned>(tiles * plan.heads().num_kv_heads); };
  launch(key_gradient_kernel<D>, {blocks(key_tiles.num_tiles), kHopperThreads, KeyLayout<D>::kBytes}, stream, call,
         key_tiles);
  launch(query_gradient_kernel<D>, {blocks(query_tiles.num_tiles), kHopperThreads, QueryLayout<D>::kBytes}, stream,
         call, query_tiles.tiles, query_tiles.tables);
}

}  // namespace

void hopper_attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, const RowStatistic* statistics,
                               ConstTypedPointer qkv, const KvBlocks& cache, const CudaAttentionPlan& plan) {
  const Call call(dqkv, dout, statistics, qkv, cache, plan.heads());
  if (plan.heads().head_dim == 64) {
    launch_kernels<64>(stream, call, plan);
  } else {
    launch_kernels<128>(stream, call, plan);
  }
}

}  // namespace wideseek::cuda
