// Gradients of attention, without atomics: one kernel sums dk and dv of a key tile over all queries that attend to it,
// the other dq of a query tile over its keys. Both compute the weights again from lse. With S = scale Q K^T:
//   P = exp(S - lse),  dV = P^T dO,  dP = dO V^T,  dS = P (dP - delta),  dQ = scale dS K,  dK = scale dS^T Q.
#include "cuda/attention_backward.h"

#include "cuda/attention_gradient.h"

namespace wideseek::cuda {
namespace {

using Call = GradientCall;

// ---- dk and dv. A block takes a key tile of one kv head; each of its four warps has 16 keys, and the scores are
// transposed, so that a warp's weights are in the registers where the next product wants them.

constexpr int kKeyTileKeys = kAttentionWarps * 16;

// Shared memory: keys and values, then two stages of queries, their dout and statistics.
template <int D>
struct KeyLayout {
  static constexpr uint32_t kKeyBytes = kKeyTileKeys * kRowBytes<D>, kRowTileBytes = kStepRows * kRowBytes<D>,
                            kStageBytes = 2 * kRowTileBytes + kStepRows * sizeof(RowStatistic);
  static constexpr uint32_t kBytes = 2 * kKeyBytes + 2 * kStageBytes;
  SharedAddress keys;
  __device__ SharedAddress values() const { return keys + kKeyBytes; }
  __device__ SharedAddress queries(int stage) const { return keys + 2 * kKeyBytes + stage * kStageBytes; }
  __device__ SharedAddress dout(int stage) const { return queries(stage) + kRowTileBytes; }
  __device__ SharedAddress statistics(int stage) const { return queries(stage) + 2 * kRowTileBytes; }
};

// Starts the copies of a step and says where it is.
template <int D>
__device__ __forceinline__ StepStart copy_step(const Call& call, const KeyLayout<D>& layout, const QueryRange* ranges,
                                               const Step& step, int kv_head, int stage) {
  const QueryRange range = ranges[step.range];
  const int skipped = step.begin / call.heads.group, in_group = step.begin - skipped * call.heads.group;
  const PackedRows rows(call.heads, range.row + skipped, range.num_rows - skipped, kv_head);
  copy_rows<D, kStepRows>(layout.queries(stage), call.qkv, [&](int row) {
    return in_group + row < rows.num_rows ? call.qkv + rows.element_of(in_group + row, call.heads.qkv_size(), D)
                                          : nullptr;
  });
  copy_rows<D, kStepRows>(layout.dout(stage), call.dout, [&](int row) {
    return in_group + row < rows.num_rows ? call.dout + rows.element_of(in_group + row, call.heads.out_size(), D)
                                          : nullptr;
  });
  const int row = static_cast<int>(threadIdx.x);
  if (row < kStepRows) {
    const bool valid = in_group + row < rows.num_rows;
    copy_async<sizeof(RowStatistic)>(layout.statistics(stage) + row * static_cast<uint32_t>(sizeof(RowStatistic)),
                                     call.statistics + (valid ? rows.head_of(in_group + row) : 0), valid);
  }
  commit_copies();
  return {range.position + skipped, in_group};
}

template <int D>
__global__ void __launch_bounds__(kAttentionThreads, 2) key_gradient_kernel(Call call, KeyTiles lists) {
  const KeyLayout<D> layout{dynamic_shared_address()};
  const auto num_kv_heads = static_cast<unsigned>(call.heads.num_kv_heads);
  const KeyTile& tile = lists.tiles[blockIdx.x / num_kv_heads];
  const int kv_head = static_cast<int>(blockIdx.x % num_kv_heads);
  const int last_range = tile.first_range + tile.num_ranges - 1, last_key = tile.position + tile.num_keys - 1;
  copy_keys_and_values<D, kKeyTileKeys>(layout.keys, layout.values(), call.keys, call.values, call.heads, tile.blocks,
                                        kv_head, 0, tile.num_keys);
  Step step{tile.first_range, 0};
  StepStart start = copy_step(call, layout, lists.ranges, step, kv_head, 0);

  const int first_row = warp_id() * 16;
  const SharedAddress keys = layout.keys + static_cast<uint32_t>(first_row * kRowBytes<D>),
                      values = layout.values() + static_cast<uint32_t>(first_row * kRowBytes<D>);
  float dk[1][D / 8][4], dv[1][D / 8][4];
  set_zero(dk);
  set_zero(dv);
  bool goes_on = true;
  for (int stage = 0; goes_on; stage ^= 1) {
    wait_copies<0>();
    __syncthreads();  // all copies have arrived, and nobody reads the other stage any more
    goes_on = step.advance(lists, last_range, call.heads.group);
    StepStart next = start;
    if (goes_on) next = copy_step(call, layout, lists.ranges, step, kv_head, stage ^ 1);
    float weights[1][kRowColumns][4], gradients[1][kRowColumns][4];
    product<D>(weights, keys, layout.queries(stage));
    weigh(weights, layout.statistics(stage), call, start, tile.position + first_row, last_key);
    add_product<D>(dv, weights, layout.dout(stage));
    product<D>(gradients, values, layout.dout(stage));
    differentiate(gradients, weights, layout.statistics(stage));
    add_product<D>(dk, gradients, layout.queries(stage));
    start = next;
  }
  scale_by(dk, call.scale);
  const int32_t* rows = lists.key_rows + static_cast<int64_t>(blockIdx.x / num_kv_heads) * kKeyTileKeys + first_row;
  BF16* to = call.dqkv + int64_t{call.heads.num_heads + kv_head} * D;
  store_rows<D>(dk, keys, [&](int row) { return rows[row] < 0 ? nullptr : to + rows[row] * call.heads.qkv_size(); });
  to += int64_t{call.heads.num_kv_heads} * D;
  store_rows<D>(dv, values, [&](int row) { return rows[row] < 0 ? nullptr : to + rows[row] * call.heads.qkv_size(); });
}

// ---- dq. A block takes a query tile as the forward pass does, with 32 keys a step.

constexpr int kKeys = 32;
constexpr int kRowTiles = kTileRows / 16 / kAttentionWarps;
constexpr int kKeyColumns = kKeys / 8;

// Shared memory: queries and dout, then two stages of keys and values.
template <int D>
struct QueryLayout {
  static constexpr uint32_t kQueryBytes = kTileRows * kRowBytes<D>, kKeyBytes = kKeys * kRowBytes<D>;
  static constexpr uint32_t kBytes = 2 * kQueryBytes + 4 * kKeyBytes;
  SharedAddress queries;
  __device__ SharedAddress dout() const { return queries + kQueryBytes; }
  __device__ SharedAddress keys(int stage) const { return queries + 2 * kQueryBytes + stage * 2 * kKeyBytes; }
  __device__ SharedAddress values(int stage) const { return keys(stage) + kKeyBytes; }
};

template <int D>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    query_gradient_kernel(Call call, const QueryTile* tiles, const int32_t* tables) {
  const QueryLayout<D> layout{dynamic_shared_address()};
  const auto num_kv_heads = static_cast<unsigned>(call.heads.num_kv_heads);
  const QueryTile tile = tiles[blockIdx.x / num_kv_heads];
  const int kv_head = static_cast<int>(blockIdx.x % num_kv_heads);
  const int32_t* table = tables + tile.table;
  const PackedRows rows(call.heads, tile.row, tile.num_rows, kv_head);
  const int end = tile.position + tile.num_rows;
  const auto copy_keys = [&](int first) {
    const int stage = first / kKeys % 2;
    copy_keys_and_values<D, kKeys>(layout.keys(stage), layout.values(stage), call.keys, call.values, call.heads, table,
                                   kv_head, first, end);
    commit_copies();
  };
  copy_rows<D, kTileRows>(layout.queries, call.qkv, [&](int row) {
    return row < rows.num_rows ? call.qkv + rows.element_of(row, call.heads.qkv_size(), D) : nullptr;
  });
  copy_rows<D, kTileRows>(layout.dout(), call.dout, [&](int row) {
    return row < rows.num_rows ? call.dout + rows.element_of(row, call.heads.out_size(), D) : nullptr;
  });
  copy_keys(0);

  const int first_row = warp_id() * kRowTiles * 16;
  const auto own_rows = static_cast<uint32_t>(first_row * kRowBytes<D>);
  RowStatistic statistics[kRowTiles][2];
  load_statistics(statistics, call, rows, first_row);
  float dq[kRowTiles][D / 8][4];
  set_zero(dq);
  for (int first = 0; first < end; first += kKeys) {
    wait_copies<0>();
    __syncthreads();  // all copies have arrived, and nobody reads the other stage any more
    if (first + kKeys < end) copy_keys(first + kKeys);
    const int stage = first / kKeys % 2;
    float scores[kRowTiles][kKeyColumns][4], gradients[kRowTiles][kKeyColumns][4];
    product<D>(scores, layout.queries + own_rows, layout.keys(stage));
    if (first + kKeys - 1 > tile.position)
      mask_later_keys(scores, call.heads, first_row, tile.position - first, -INFINITY);
    product<D>(gradients, layout.dout() + own_rows, layout.values(stage));
    weigh(scores, statistics, call.scale * kLog2E);
    differentiate(scores, gradients, statistics);
    add_product<D>(dq, scores, layout.keys(stage));
  }
  scale_by(dq, call.scale);
  store_rows<D>(dq, layout.queries + own_rows, [&](int row) {
    return first_row + row < rows.num_rows ? call.dqkv + rows.element_of(first_row + row, call.heads.qkv_size(), D)
                                           : nullptr;
  });
}

template <int D>
void launch_kernels(Stream stream, const Call& call, const CudaAttentionPlan& plan) {
  const QueryTiles& query_tiles = plan.query_tiles();
  const KeyTiles& key_tiles = plan.key_tiles();
  WS_CHECK(key_tiles.tile_keys == kKeyTileKeys, kInternal, "attention", "key tiles are of another device");
  const auto blocks = [&](int64_t tiles) { return static_cast<unsigned>(tiles * plan.heads().num_kv_heads); };
  launch(key_gradient_kernel<D>, {blocks(key_tiles.num_tiles), kAttentionThreads, KeyLayout<D>::kBytes}, stream, call,
         key_tiles);
  launch(query_gradient_kernel<D>, {blocks(query_tiles.num_tiles), kAttentionThreads, QueryLayout<D>::kBytes}, stream,
         call, query_tiles.tiles, query_tiles.tables);
}

}  // namespace

void tensor_attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, const RowStatistic* statistics,
                               ConstTypedPointer qkv, const KvBlocks& cache, const CudaAttentionPlan& plan) {
  const Call call(dqkv, dout, statistics, qkv, cache, plan.heads());
  if (plan.heads().head_dim == 64) {
    launch_kernels<64>(stream, call, plan);
  } else {
    launch_kernels<128>(stream, call, plan);
  }
}

}  // namespace wideseek::cuda
