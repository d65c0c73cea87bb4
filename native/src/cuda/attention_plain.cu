// Plain attention kernels. With s = scale q k, p = exp(s - lse), delta = dot(dout, out):
//   ds = p (dot(dout, v) - delta),  dq = scale sum ds k,  dk = scale sum ds q,  dv = sum p dout.
#include "cuda/attention_plain.h"

#include <cmath>

#include "cuda/kv_store.h"
#include "cuda/mma.h"

namespace wideseek::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;  // of a block
constexpr int kLaneElements = kMaxPlainHeadDim / kWarp;
constexpr unsigned kAll = 0xffffffffu;

// What all kernels read. E is float or BF16.
template <typename E>
struct Inputs {
  const E* qkv;
  const E* keys;
  const E* values;
  const E* dout;                   // backward only, as the next two
  const float* lse;                // [T,H]
  const RowStatistic* statistics;  // [T,H]
  Heads heads;
  float scale;

  __device__ const E* q(int64_t row, int head) const { return qkv + row * heads.qkv_size() + head * heads.head_dim; }
  __device__ const E* dout_of(int64_t row, int head) const {
    return dout + row * heads.out_size() + head * heads.head_dim;
  }
};

// Two rows of one head for each warp, and what its lanes found, for all of its lanes to read.
struct WarpMemory {
  float first[kMaxPlainHeadDim], second[kMaxPlainHeadDim];
  float weights[kWarp], other_weights[kWarp];
};

__device__ __forceinline__ float warp_max(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, __shfl_xor_sync(kAll, value, mask));
  return value;
}
__device__ __forceinline__ float warp_sum(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(kAll, value, mask);
  return value;
}

// By all lanes of a warp; the row is there after the next __syncwarp().
template <typename E>
__device__ __forceinline__ void copy_row(float* to, const E* from, int n) {
  for (int d = lane_id(); d < n; d += kWarp) to[d] = to_float(from[d]);
}

template <typename E>
__device__ __forceinline__ float dot(const float* x, const E* y, int n) {
  float sum = 0;
  for (int d = 0; d < n; ++d) sum = __fmaf_rn(x[d], to_float(y[d]), sum);
  return sum;
}

// The elements d = lane + 32 i of a row of n that is being summed up.
struct LaneRow {
  float at[kLaneElements] = {};

  __device__ void scale(float factor) {
    WS_UNROLL
    for (int i = 0; i < kLaneElements; ++i) at[i] *= factor;
  }
  template <typename E>
  __device__ void add(float weight, const E* row, int n) {
    WS_UNROLL
    for (int i = 0; i < kLaneElements; ++i) {
      const int d = lane_id() + i * kWarp;
      if (d < n) at[i] = __fmaf_rn(weight, to_float(row[d]), at[i]);
    }
  }
  template <typename E>
  __device__ void store(E* row, int n, float factor) const {
    WS_UNROLL
    for (int i = 0; i < kLaneElements; ++i) {
      const int d = lane_id() + i * kWarp;
      if (d < n) row[d] = from_float<E>(at[i] * factor);
    }
  }
};

// What block (tile, head) computes. Its warps take the rows of the tile in turn.
struct Place {
  QueryTile tile;
  int head, kv_head;
  const int32_t* table;  // of the tile's sequence

  __device__ Place(const Heads& heads, const QueryTile* tiles, const int32_t* tables)
      : tile(tiles[blockIdx.x / heads.num_heads]),
        head(static_cast<int>(blockIdx.x % heads.num_heads)),
        kv_head(head / heads.group),
        table(tables + tile.table) {}
};

template <typename E>
__global__ void __launch_bounds__(kWarps* kWarp)
    forward_kernel(E* out, float* lse, Inputs<E> in, const QueryTile* tiles, const int32_t* tables) {
  __shared__ WarpMemory memory[kWarps];
  const Heads& heads = in.heads;
  const auto [tile, head, kv_head, table] = Place(heads, tiles, tables);
  const int n = heads.head_dim;
  WarpMemory& own = memory[warp_id()];
  for (int i = warp_id(); i < tile.num_rows; i += kWarps) {
    const int64_t row = tile.row + i;
    const int position = tile.position + i;
    __syncwarp();  // the last row's readers are done
    copy_row(own.first, in.q(row, head), n);
    LaneRow sum;
    float max = -INFINITY, total = 0;
    for (int begin = 0; begin <= position; begin += kWarp) {
      __syncwarp();
      const int key = begin + lane_id();
      const bool is_seen = key <= position;
      const float score =
          is_seen ? dot(own.first, in.keys + kv_offset(heads, table, key, kv_head), n) * in.scale : -INFINITY;
      const float new_max = fmaxf(max, warp_max(score));
      const float weight = is_seen ? expf(score - new_max) : 0.0f, shrink = expf(max - new_max);
      max = new_max;
      total = __fmaf_rn(total, shrink, warp_sum(weight));
      own.weights[lane_id()] = weight;
      __syncwarp();
      sum.scale(shrink);
      for (int j = 0; j < kWarp && begin + j <= position; ++j)
        sum.add(own.weights[j], in.values + kv_offset(heads, table, begin + j, kv_head), n);
    }
    sum.store(out + row * heads.out_size() + head * n, n, 1.0f / total);
    if (lse != nullptr && lane_id() == 0) lse[row * heads.num_heads + head] = max + logf(total);
  }
}

template <typename E>
__global__ void __launch_bounds__(kWarps* kWarp)
    query_gradient_kernel(E* dqkv, Inputs<E> in, const QueryTile* tiles, const int32_t* tables) {
  __shared__ WarpMemory memory[kWarps];
  const Heads& heads = in.heads;
  const auto [tile, head, kv_head, table] = Place(heads, tiles, tables);
  const int n = heads.head_dim;
  WarpMemory& own = memory[warp_id()];
  for (int i = warp_id(); i < tile.num_rows; i += kWarps) {
    const int64_t row = tile.row + i;
    const int position = tile.position + i;
    __syncwarp();  // the last row's readers are done
    copy_row(own.first, in.q(row, head), n);
    copy_row(own.second, in.dout_of(row, head), n);
    const float lse = in.lse[row * heads.num_heads + head], delta = in.statistics[row * heads.num_heads + head].delta;
    LaneRow sum;
    for (int begin = 0; begin <= position; begin += kWarp) {
      __syncwarp();
      const int key = begin + lane_id();
      float gradient = 0;
      if (key <= position) {
        const int64_t at = kv_offset(heads, table, key, kv_head);
        const float weight = expf(dot(own.first, in.keys + at, n) * in.scale - lse);
        gradient = weight * (dot(own.second, in.values + at, n) - delta);
      }
      own.weights[lane_id()] = gradient;
      __syncwarp();
      for (int j = 0; j < kWarp && begin + j <= position; ++j)
        sum.add(own.weights[j], in.keys + kv_offset(heads, table, begin + j, kv_head), n);
    }
    sum.store(dqkv + row * heads.qkv_size() + head * n, n, in.scale);
  }
}

// Adds to dk and dv of one key, whose key and value are own.first and own.second, what the queries of a range give:
// those from position `key` on, of all heads of the group, 32 at a time.
template <typename E>
__device__ void add_range(LaneRow& dk, LaneRow& dv, WarpMemory& own, const Inputs<E>& in, const QueryRange& range,
                          int key, int kv_head) {
  const Heads& heads = in.heads;
  const int n = heads.head_dim, end = range.num_rows * heads.group;
  const int skipped = key > range.position ? (key - range.position) * heads.group : 0;
  for (int begin = skipped; begin < end; begin += kWarp) {
    const int at = begin + lane_id();
    float weight = 0, gradient = 0;
    if (at < end) {
      const int64_t row = range.row + at / heads.group;
      const int head = kv_head * heads.group + at % heads.group;
      const int64_t statistic = row * heads.num_heads + head;
      weight = expf(dot(own.first, in.q(row, head), n) * in.scale - in.lse[statistic]);
      gradient = weight * (dot(own.second, in.dout_of(row, head), n) - in.statistics[statistic].delta);
    }
    __syncwarp();  // the last weights' readers are done
    own.weights[lane_id()] = weight;
    own.other_weights[lane_id()] = gradient;
    __syncwarp();
    for (int j = 0; j < kWarp && begin + j < end; ++j) {
      const int64_t row = range.row + (begin + j) / heads.group;
      const int head = kv_head * heads.group + (begin + j) % heads.group;
      dv.add(own.weights[j], in.dout_of(row, head), n);
      dk.add(own.other_weights[j], in.q(row, head), n);
    }
  }
}

// Block (key tile, kv head): its warps take the keys in turn.
template <typename E>
__global__ void __launch_bounds__(kWarps* kWarp) key_gradient_kernel(E* dqkv, Inputs<E> in, KeyTiles lists) {
  __shared__ WarpMemory memory[kWarps];
  const Heads& heads = in.heads;
  const int64_t t = blockIdx.x / heads.num_kv_heads;
  const KeyTile& tile = lists.tiles[t];
  const int kv_head = static_cast<int>(blockIdx.x % heads.num_kv_heads), n = heads.head_dim;
  WarpMemory& own = memory[warp_id()];
  for (int i = warp_id(); i < tile.num_keys; i += kWarps) {
    const int64_t row = lists.key_rows[t * lists.tile_keys + i];
    if (row < 0) continue;
    const int64_t at = kv_offset(heads, tile.blocks, i, kv_head);
    __syncwarp();  // the last key's readers are done
    copy_row(own.first, in.keys + at, n);
    copy_row(own.second, in.values + at, n);
    __syncwarp();
    LaneRow dk, dv;
    for (int r = 0; r < tile.num_ranges; ++r)
      add_range(dk, dv, own, in, lists.ranges[tile.first_range + r], tile.position + i, kv_head);
    E* to = dqkv + row * heads.qkv_size() + (heads.num_heads + kv_head) * n;
    dk.store(to, n, in.scale);
    dv.store(to + heads.num_kv_heads * n, n, 1.0f);
  }
}

template <typename E>
Inputs<E> inputs(ConstTypedPointer qkv, const KvBlocks& cache, const Heads& heads) {
  WS_CHECK(heads.head_dim <= kMaxPlainHeadDim, kUnsupported, "attention",
           "head_dim " + std::to_string(heads.head_dim) + "; the limit is " + std::to_string(kMaxPlainHeadDim));
  return {static_cast<const E*>(qkv.data),
          static_cast<const E*>(cache.keys.data),
          static_cast<const E*>(cache.values.data),
          nullptr,
          nullptr,
          nullptr,
          heads,
          1.0f / std::sqrt(static_cast<float>(heads.head_dim))};
}

Launch blocks(int64_t count) { return {static_cast<unsigned>(count), kWarps * kWarp}; }

}  // namespace

void plain_attention_forward(Stream stream, TypedPointer out, float* lse, ConstTypedPointer qkv, const KvBlocks& cache,
                             const CudaAttentionPlan& plan) {
  const QueryTiles& tiles = plan.query_tiles();
  with_element_type(out.dtype, [&](auto type) {
    using E = decltype(type);
    launch(forward_kernel<E>, blocks(tiles.num_tiles * plan.heads().num_heads), stream, static_cast<E*>(out.data), lse,
           inputs<E>(qkv, cache, plan.heads()), tiles.tiles, tiles.tables);
  });
}

void plain_attention_backward(Stream stream, TypedPointer dqkv, ConstTypedPointer dout, const float* lse,
                              const RowStatistic* statistics, ConstTypedPointer qkv, const KvBlocks& cache,
                              const CudaAttentionPlan& plan) {
  const QueryTiles& tiles = plan.query_tiles();
  const KeyTiles& key_tiles = plan.key_tiles();
  with_element_type(dqkv.dtype, [&](auto type) {
    using E = decltype(type);
    Inputs<E> in = inputs<E>(qkv, cache, plan.heads());
    in.dout = static_cast<const E*>(dout.data);
    in.lse = lse;
    in.statistics = statistics;
    launch(query_gradient_kernel<E>, blocks(tiles.num_tiles * plan.heads().num_heads), stream,
           static_cast<E*>(dqkv.data), in, tiles.tiles, tiles.tables);
    launch(key_gradient_kernel<E>, blocks(key_tiles.num_tiles * plan.heads().num_kv_heads), stream,
           static_cast<E*>(dqkv.data), in, key_tiles);
  });
}

}  // namespace wideseek::cuda
