// The inner loops of attention for one instruction set; included by attention_avx512.cc, _avx2.cc and _portable.cc.
#pragma once

#include "cpu/attention_table.h"
#include "cpu/vector_math.h"

namespace wideseek::WS_ISA {
namespace {

constexpr int64_t kBlock = 16;
static_assert(kBlock == kLanes);
// Rows and vectors of one register tile: 24 accumulators in the 32 AVX-512 registers; fewer where there are fewer.
#if defined(WS_VECTOR_AVX512)
constexpr int kTileRows = 6, kTileVectors = 4;
#elif defined(WS_VECTOR_AVX2)
constexpr int kTileRows = 6, kTileVectors = 1;
#else
constexpr int kTileRows = 4, kTileVectors = 1;
#endif
static_assert(kTileRows <= kMaxRowTile);

WS_INLINE void prefetch(const float* p) { __builtin_prefetch(p); }

// Calls f.template operator()<R>(first_row) over tiles of nearly equal height R <= kTileRows.
template <typename F>
WS_INLINE void for_row_tiles(int64_t rows, F&& f) {
  const int64_t num_tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < num_tiles; ++t) {
    const int64_t begin = rows * t / num_tiles;
    switch (rows * (t + 1) / num_tiles - begin) {
      case 1:
        f.template operator()<1>(begin);
        break;
      case 2:
        f.template operator()<2>(begin);
        break;
      case 3:
        f.template operator()<3>(begin);
        break;
      case 4:
        f.template operator()<4>(begin);
        break;
      case 5:
        if constexpr (kTileRows > 4) f.template operator()<5>(begin);
        break;
      default:
        if constexpr (kTileRows > 5) f.template operator()<6>(begin);
        break;
    }
  }
}

// Rows [row, row + R) of in as [head_dim][R], so that the loops below need one pointer for all of them.
template <int R>
WS_INLINE void interleave(const float* in, int64_t ld, int64_t head_dim, float* out) {
  for (int64_t d = 0; d < head_dim; ++d) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) out[d * R + r] = in[r * ld + d];
  }
}

// acc[r][v] lane j = fma chain over d of a[d][r] * block_v[d][j]. Blocks are pages apart, where hardware prefetching
// stops, so the blocks that come next are fetched here.
template <int R, int V>
WS_INLINE void dot_blocks(F16 (&acc)[R][V], const float* a, const float* const (&blocks)[V],
                          const float* const (&next)[V], int64_t head_dim) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
#pragma GCC unroll 2
  for (int64_t d = 0; d < head_dim; ++d) {
    F16 keys[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      keys[v] = load(blocks[v] + d * kBlock);
      prefetch(next[v] + d * kBlock);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F16 value = splat(a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = fma(value, keys[v], acc[r][v]);
    }
    a += R;
  }
}

// acc[r][v] += sum over the keys [0, num_keys) of a block, in order, of weights[r][key] * rows[key][16 v ..]. `next` is
// the block that comes next.
template <int R, int V, typename Lanes>
WS_INLINE void add_weighted_rows(F16 (&acc)[R][V], const float* weights, const float* rows, const float* next,
                                 int64_t ld, int num_keys, Lanes lanes) {
#pragma GCC unroll 2
  for (int j = 0; j < num_keys; ++j) {
    F16 value[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      value[v] = load(rows + v * kLanes, lanes);
      prefetch(next + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F16 weight = splat(weights[r * kBlock + j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, value[v], acc[r][v]);
    }
    rows += ld;
    next += ld;
  }
}

// Block `index` of a sequence, or its last one.
WS_INLINE const float* block_at(const float* base, const int32_t* table, int64_t stride, int64_t num_blocks,
                                int64_t index) {
  return base + table[index < num_blocks ? index : num_blocks - 1] * stride;
}

// ---- forward. Scores of R rows: [num_blocks][R][16].

template <int R, int V>
void score_blocks(const ForwardTile& t, int64_t row, int64_t block, float* scores, F16* max_score) {
  const AttentionContext& c = t.context;
  const float *blocks[V], *next[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    blocks[v] = block_at(c.keys, c.table, c.block_stride, c.num_blocks, block + v);
    next[v] = block_at(c.keys, c.table, c.block_stride, c.num_blocks, block + V + v);
  }
  F16 acc[R][V];
  dot_blocks<R, V>(acc, t.interleaved_q, blocks, next, c.head_dim);
  const F16 scale = splat(c.scale);
  const bool last = block + V == c.num_blocks;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    F16 largest = max_score[r];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      F16 score = acc[r][v] * scale;
      if (v == V - 1 && last) {
        score = select(first_lanes(t.num_tail[row + r]), score, splat(-std::numeric_limits<float>::infinity()));
      }
      largest = max(largest, score);
      store(scores + ((block + v) * R + r) * kBlock, score);
    }
    max_score[r] = largest;
  }
}

// Scores become p = exp(score - m), 0 where masked, which adds nothing to the sums.
template <int R>
void exponentials(float* scores, int64_t num_blocks, const float* m, F16* sum) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F16 shift = splat(m[r]);
    F16 total = splat(0.0f);
#pragma GCC unroll 4
    for (int64_t b = 0; b < num_blocks; ++b) {
      float* at = scores + (b * R + r) * kBlock;
      const F16 p = exp(load(at) - shift);
      store(at, p);
      total = total + p;
    }
    sum[r] = total;
  }
}

// Vectors [d0, d0 + 16 V) of the output rows.
template <int R, int V, typename Lanes>
void weighted_values(const ForwardTile& t, int64_t row, int64_t d0, const float* scores, const float* inverse_sum,
                     Lanes lanes) {
  const AttentionContext& c = t.context;
  F16 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
  const int64_t last = c.num_blocks - 1;
  for (int64_t b = 0; b < last; ++b) {
    add_weighted_rows<R, V>(acc, scores + b * R * kBlock, c.values + c.table[b] * c.block_stride + d0,
                            c.values + c.table[b + 1] * c.block_stride + d0, c.head_dim, kBlock, lanes);
  }
  // The keys of the last block: first those that all rows see, then each row's own.
  int common = static_cast<int>(kBlock);
  for (int r = 0; r < R; ++r) common = t.num_tail[row + r] < common ? t.num_tail[row + r] : common;
  const float* weights = scores + last * R * kBlock;
  const float* values = c.values + c.table[last] * c.block_stride + d0;
  add_weighted_rows<R, V>(acc, weights, values, values, c.head_dim, common, lanes);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    for (int j = common; j < t.num_tail[row + r]; ++j) {
      const F16 weight = splat(weights[r * kBlock + j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, load(values + j * c.head_dim + v * kLanes, lanes), acc[r][v]);
    }
    const F16 inverse = splat(inverse_sum[r]);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(t.out[row + r] + d0 + v * kLanes, acc[r][v] * inverse, lanes);
  }
}

// Calls f.template operator()<V>(d0, lanes) over the head dimension.
template <typename F>
WS_INLINE void for_head_vectors(int64_t head_dim, F&& f) {
  int64_t d = 0;
  if constexpr (kTileVectors == 4) {
    for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) f.template operator()<4>(d, AllLanes{});
    if (d + 2 * kLanes <= head_dim) {
      f.template operator()<2>(d, AllLanes{});
      d += 2 * kLanes;
    }
  }
  for (; d + kLanes <= head_dim; d += kLanes) f.template operator()<1>(d, AllLanes{});
  if (d < head_dim) f.template operator()<1>(d, FirstLanes{static_cast<int>(head_dim - d)});
}

template <int R>
void forward_rows(const ForwardTile& t, int64_t row) {
  const AttentionContext& c = t.context;
  interleave<R>(t.q + row * c.head_dim, c.head_dim, c.head_dim, t.interleaved_q);
  F16 largest[R], total[R];
  for (int r = 0; r < R; ++r) largest[r] = splat(-std::numeric_limits<float>::infinity());
  int64_t b = 0;
  for (; b + kTileVectors <= c.num_blocks; b += kTileVectors)
    score_blocks<R, kTileVectors>(t, row, b, t.scores, largest);
  for (; b < c.num_blocks; ++b) score_blocks<R, 1>(t, row, b, t.scores, largest);
  float m[R], inverse_sum[R];
  for (int r = 0; r < R; ++r) m[r] = reduce_max(largest[r]);
  exponentials<R>(t.scores, c.num_blocks, m, total);
  for (int r = 0; r < R; ++r) {
    const float sum = reduce_add(total[r]);
    inverse_sum[r] = 1.0f / sum;
    t.lse[row + r] = m[r] + log(sum);
  }
  for_head_vectors(c.head_dim, [&]<int V>(int64_t d0, auto lanes) {
    weighted_values<R, V>(t, row, d0, t.scores, inverse_sum, lanes);
  });
}

void forward_tile(const ForwardTile& t) {
  for_row_tiles(t.rows, [&]<int R>(int64_t row) { forward_rows<R>(t, row); });
}

// ---- backward

template <int R, int V>
void probability_blocks(const BackwardTile& t, int64_t row, int64_t block) {
  const AttentionContext& c = t.context;
  const float *keys[V], *values[V], *next_keys[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    keys[v] = block_at(c.keys, c.table, c.block_stride, c.num_blocks, block + v);
    next_keys[v] = block_at(c.keys, c.table, c.block_stride, c.num_blocks, block + V + v);
    values[v] = block_at(t.turned_values, t.turned_table, t.turned_value_stride, c.num_blocks, block + v);
  }
  const F16 scale = splat(c.scale);
  const bool last = block + V == c.num_blocks;
  F16 acc[R][V];
  dot_blocks<R, V>(acc, t.interleaved_q, keys, values, c.head_dim);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      F16 p = exp(acc[r][v] * scale - splat(t.lse[row + r]));
      if (v == V - 1 && last) p = select(first_lanes(t.num_tail[row + r]), p, splat(0.0f));
      store(t.p + ((block + v) * t.rows + row + r) * kBlock, p);
    }
  }
  dot_blocks<R, V>(acc, t.interleaved_dout, values, next_keys, c.head_dim);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = ((block + v) * t.rows + row + r) * kBlock;
      F16 ds = load(t.p + at) * (acc[r][v] - splat(t.delta[row + r])) * scale;
      if (v == V - 1 && last) ds = select(first_lanes(t.num_tail[row + r]), ds, splat(0.0f));
      store(t.ds + at, ds);
    }
  }
}

template <int R, int V, typename Lanes>
void query_gradient(const BackwardTile& t, int64_t row, int64_t d0, int64_t ld, Lanes lanes) {
  F16 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
  for (int64_t b = 0; b < t.context.num_blocks; ++b) {
    const float* keys = t.turned_keys + t.turned_table[b] * t.turned_key_stride + d0;
    const float* next = block_at(t.turned_keys + d0, t.turned_table, t.turned_key_stride, t.context.num_blocks, b + 1);
    add_weighted_rows<R, V>(acc, t.ds + (b * t.rows + row) * kBlock, keys, next, ld, kBlock, AllLanes{});
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(t.dq[row + r] + d0 + v * kLanes, acc[r][v], lanes);
  }
}

template <int R>
void backward_rows(const BackwardTile& t, int64_t row) {
  const AttentionContext& c = t.context;
  const int64_t ld = (c.head_dim + kLanes - 1) / kLanes * kLanes;
  interleave<R>(t.q + row * ld, ld, c.head_dim, t.interleaved_q);
  interleave<R>(t.dout + row * ld, ld, c.head_dim, t.interleaved_dout);
  int64_t b = 0;
  for (; b + kTileVectors <= c.num_blocks; b += kTileVectors) probability_blocks<R, kTileVectors>(t, row, b);
  for (; b < c.num_blocks; ++b) probability_blocks<R, 1>(t, row, b);
  for_head_vectors(c.head_dim, [&]<int V>(int64_t d0, auto lanes) { query_gradient<R, V>(t, row, d0, ld, lanes); });
}

void backward_tile(const BackwardTile& t) {
  for_row_tiles(t.rows, [&]<int R>(int64_t row) { backward_rows<R>(t, row); });
}

// Keys [key, key + R) of the block, vectors [d0, d0 + 16 V).
template <int R, int V, typename Lanes>
void key_gradient(float* gradient, int64_t head_dim, int64_t ld, const BlockGradientPart* parts, int64_t num_parts,
                  int64_t key, int64_t d0, Lanes lanes) {
  F16 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = load(gradient + (key + r) * head_dim + d0 + v * kLanes, lanes);
  }
  for (int64_t i = 0; i < num_parts; ++i) {
    const float* weights = parts[i].weights + key;
    const float* in = parts[i].rows_in + d0;
    for (int64_t row = 0; row < parts[i].rows; ++row) {
      F16 value[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) value[v] = load(in + row * ld + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F16 weight = splat(weights[row * kBlock + r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, value[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(gradient + (key + r) * head_dim + d0 + v * kLanes, acc[r][v], lanes);
  }
}

void block_gradient(float* gradient, int64_t head_dim, int64_t ld, const BlockGradientPart* parts, int64_t num_parts) {
  for_row_tiles(kBlock, [&]<int R>(int64_t key) {
    for_head_vectors(head_dim, [&]<int V>(int64_t d0, auto lanes) {
      key_gradient<R, V>(gradient, head_dim, ld, parts, num_parts, key, d0, lanes);
    });
  });
}

float dot_row(const float* x, const float* y, int64_t n) { return dot(x, y, n); }

}  // namespace

constexpr AttentionKernels kAttentionKernels = {forward_tile, backward_tile, block_gradient, dot_row};

}  // namespace wideseek::WS_ISA
