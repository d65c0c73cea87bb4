// The inner loops of attention for one instruction set; included by attention_avx512.cc, _avx2.cc and _portable.cc.
#pragma once

#include "cpu/attention_table.h"
#include "cpu/vector_math.h"

namespace wideseek::WS_ISA {
namespace {

constexpr int64_t kBlock = 16;
static_assert(kBlock == kLanes);
constexpr int kTileRows = 6;
#if defined(WS_VECTOR_AVX512)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 1;
#endif

// Calls f.template run<R>(first_row) over tiles of nearly equal height R <= 6.
template <typename F>
WS_INLINE void for_row_tiles(int64_t rows, F&& f) {
  const int64_t num_tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < num_tiles; ++t) {
    const int64_t begin = rows * t / num_tiles;
    switch (rows * (t + 1) / num_tiles - begin) {
      case 1: f.template operator()<1>(begin); break;
      case 2: f.template operator()<2>(begin); break;
      case 3: f.template operator()<3>(begin); break;
      case 4: f.template operator()<4>(begin); break;
      case 5: f.template operator()<5>(begin); break;
      default: f.template operator()<6>(begin); break;
    }
  }
}

// acc[r][v] lane j = fma chain over d of a[r][d] * block_v[d][j]
template <int R, int V>
WS_INLINE void dot_blocks(F16 (&acc)[R][V], const float* a, int64_t lda, const float* const (&blocks)[V], int64_t head_dim) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    F16 keys[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) keys[v] = load(blocks[v] + d * kBlock);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F16 value = splat(a[r * lda + d]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = fma(value, keys[v], acc[r][v]);
    }
  }
}

// ---- forward

template <int R, int V>
void score_tile(const ForwardTile& t, int64_t row, int64_t block) {
  const AttentionContext& c = t.context;
  const float* blocks[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) blocks[v] = c.keys + c.table[block + v] * c.block_stride;
  F16 acc[R][V];
  dot_blocks<R, V>(acc, t.q + row * c.head_dim, c.head_dim, blocks, c.head_dim);
  const F16 scale = splat(c.scale);
  float* scores = t.scores + (row * c.num_blocks + block) * kBlock;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(scores + r * c.num_blocks * kBlock + v * kBlock, acc[r][v] * scale);
  }
}

template <int V>
void score_blocks(const ForwardTile& t, int64_t block) {
  for_row_tiles(t.rows, [&]<int R>(int64_t row) { score_tile<R, V>(t, row, block); });
}

// Turns a row of scores into p; returns l. Masked lanes become 0, which adds nothing.
WS_INLINE float softmax_row(const ForwardTile& t, int64_t row, float* max_score) {
  const int64_t count = t.context.num_blocks * kBlock;
  float* scores = t.scores + row * count;
  float* last = scores + count - kBlock;
  const Mask16 seen = first_lanes(t.num_tail[row]);
  store(last, select(seen, load(last), splat(-std::numeric_limits<float>::infinity())));
  const float m = max(scores, count);
  F16 sum = splat(0.0f);
  for (int64_t j = 0; j < count; j += kBlock) {
    const F16 p = exp(load(scores + j) - splat(m));
    store(scores + j, p);
    sum = sum + p;
  }
  *max_score = m;
  return reduce_add(sum);
}

// out rows [row, row + R), vectors [d0, d0 + 16 V)
template <int R, int V, typename Lanes>
void weighted_values(const ForwardTile& t, int64_t row, int64_t d0, const float* inverse_sum, Lanes lanes) {
  const AttentionContext& c = t.context;
  const int64_t D = c.head_dim, ld = c.num_blocks * kBlock;
  const float* p = t.scores + row * ld;
  F16 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
  int common = static_cast<int>(kBlock);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) common = t.num_tail[row + r] < common ? t.num_tail[row + r] : common;
  for (int64_t b = 0; b < c.num_blocks; ++b) {
    const float* values = c.values + c.table[b] * c.block_stride + d0;
    const int num_keys = b + 1 < c.num_blocks ? static_cast<int>(kBlock) : common;
    for (int j = 0; j < num_keys; ++j) {
      F16 value[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) value[v] = load(values + j * D + v * kLanes, lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F16 weight = splat(p[r * ld + b * kBlock + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, value[v], acc[r][v]);
      }
    }
  }
  // Keys of the last block that only some rows see.
  const int64_t b = c.num_blocks - 1;
  const float* values = c.values + c.table[b] * c.block_stride + d0;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    for (int j = common; j < t.num_tail[row + r]; ++j) {
      const F16 weight = splat(p[r * ld + b * kBlock + j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, load(values + j * D + v * kLanes, lanes), acc[r][v]);
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

void forward_tile(const ForwardTile& t) {
  const AttentionContext& c = t.context;
  int64_t b = 0;
  for (; b + kTileVectors <= c.num_blocks; b += kTileVectors) score_blocks<kTileVectors>(t, b);
  if constexpr (kTileVectors == 4) {
    if (b + 2 <= c.num_blocks) {
      score_blocks<2>(t, b);
      b += 2;
    }
    if (b < c.num_blocks) score_blocks<1>(t, b);
  }
  for_row_tiles(t.rows, [&]<int R>(int64_t row) {
    float inverse_sum[R];
    for (int r = 0; r < R; ++r) {
      float max_score;
      const float sum = softmax_row(t, row + r, &max_score);
      inverse_sum[r] = 1.0f / sum;
      t.lse[row + r] = max_score + log(sum);
    }
    for_head_vectors(c.head_dim, [&]<int V>(int64_t d0, auto lanes) { weighted_values<R, V>(t, row, d0, inverse_sum, lanes); });
  });
}

// ---- backward

template <int R, int V>
void probability_tile(const BackwardTile& t, int64_t row, int64_t block, int64_t ld) {
  const AttentionContext& c = t.context;
  const float *keys[V], *values[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    keys[v] = c.keys + c.table[block + v] * c.block_stride;
    values[v] = t.turned_values + t.turned_table[block + v] * t.turned_value_stride;
  }
  const F16 scale = splat(c.scale);
  F16 acc[R][V];
  dot_blocks<R, V>(acc, t.q + row * ld, ld, keys, c.head_dim);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      F16 p = exp(acc[r][v] * scale - splat(t.lse[row + r]));
      if (block + v == c.num_blocks - 1) p = select(first_lanes(t.num_tail[row + r]), p, splat(0.0f));
      store(t.p + ((block + v) * t.rows + row + r) * kBlock, p);
    }
  }
  dot_blocks<R, V>(acc, t.dout + row * ld, ld, values, c.head_dim);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t at = ((block + v) * t.rows + row + r) * kBlock;
      F16 ds = load(t.p + at) * (acc[r][v] - splat(t.delta[row + r])) * scale;
      if (block + v == c.num_blocks - 1) ds = select(first_lanes(t.num_tail[row + r]), ds, splat(0.0f));
      store(t.ds + at, ds);
    }
  }
}

template <int V>
void probability_blocks(const BackwardTile& t, int64_t block, int64_t ld) {
  for_row_tiles(t.rows, [&]<int R>(int64_t row) { probability_tile<R, V>(t, row, block, ld); });
}

template <int R, int V, typename Lanes>
void query_gradient(const BackwardTile& t, int64_t row, int64_t d0, int64_t ld, Lanes lanes) {
  const AttentionContext& c = t.context;
  F16 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = splat(0.0f);
  }
  for (int64_t b = 0; b < c.num_blocks; ++b) {
    const float* keys = t.turned_keys + t.turned_table[b] * t.turned_key_stride + d0;
    const float* ds = t.ds + (b * t.rows + row) * kBlock;
    for (int j = 0; j < kBlock; ++j) {
      F16 key[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) key[v] = load(keys + j * ld + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F16 weight = splat(ds[r * kBlock + j]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = fma(weight, key[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(t.dq[row + r] + d0 + v * kLanes, acc[r][v], lanes);
  }
}

void backward_tile(const BackwardTile& t) {
  const AttentionContext& c = t.context;
  const int64_t ld = (c.head_dim + kLanes - 1) / kLanes * kLanes;
  int64_t b = 0;
  for (; b + kTileVectors <= c.num_blocks; b += kTileVectors) probability_blocks<kTileVectors>(t, b, ld);
  for (; b < c.num_blocks; ++b) probability_blocks<1>(t, b, ld);
  for_row_tiles(t.rows, [&]<int R>(int64_t row) {
    for_head_vectors(c.head_dim, [&]<int V>(int64_t d0, auto lanes) { query_gradient<R, V>(t, row, d0, ld, lanes); });
  });
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
