// Backward attention in waves: first each query tile computes its probabilities, their gradients and dq; then each
// block of keys collects dk and dv from the tiles that saw it. Nothing is computed twice and no two threads add to one
// place.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "cpu/attention.h"
#include "cpu/attention_state.h"

namespace wideseek {
namespace {

// Size of a wave. Gradients do not depend on it: a block's chain goes on from wave to wave.
constexpr int64_t kWaveElements = int64_t{4} << 20;
constexpr int64_t kMinWaveTasks = 8;

using State = AttentionWorkspace::State;

// Numbers the blocks in use, and gives every slice a table of those numbers. Returns the tables' begins.
std::vector<int64_t> number_blocks(State& state, const SequenceSlice* slices, int64_t num_slices) {
  std::fill(state.turned_index.begin(), state.turned_index.end(), -1);
  state.turned_blocks.clear();
  state.num_valid.clear();
  state.turned_tables.clear();
  std::vector<int64_t> begins;
  for (int64_t s = 0; s < num_slices; ++s) {
    const int64_t length = slices[s].first_position + slices[s].num_rows;
    begins.push_back(static_cast<int64_t>(state.turned_tables.size()));
    for (int64_t b = 0; b * kAttentionBlock < length; ++b) {
      const int32_t block = slices[s].block_table[b];
      WS_CHECK(block >= 0, kInvalidArgument, "attention_backward",
               "a block table names block " + std::to_string(block));
      if (static_cast<size_t>(block) >= state.turned_index.size())
        state.turned_index.resize(static_cast<size_t>(block) + 1, -1);
      int32_t& index = state.turned_index[static_cast<size_t>(block)];
      if (index < 0) {
        index = static_cast<int32_t>(state.turned_blocks.size());
        state.turned_blocks.push_back(block);
        state.num_valid.push_back(0);
      }
      int32_t& valid = state.num_valid[static_cast<size_t>(index)];
      valid = std::max(valid, static_cast<int32_t>(std::min(kAttentionBlock, length - b * kAttentionBlock)));
      state.turned_tables.push_back(index);
    }
  }
  return begins;
}

// Copies keys to [16][ld] and values to [D][16]; what was not stored becomes 0. Zeroes the gradients of the same
// blocks.
void turn_blocks(ThreadPool& pool, State& state, const KvBlocks& cache, const KvBlocks& dcache,
                 const AttentionShape& shape) {
  const int64_t K = shape.num_kv_heads, D = shape.head_dim, ld = padded_head_dim(shape);
  const auto num_blocks = static_cast<int64_t>(state.turned_blocks.size());
  float* turned_keys = state.turned_keys.grow(num_blocks * K * kAttentionBlock * ld);
  float* turned_values = state.turned_values.grow(num_blocks * block_elements(shape));
  pool.parallel_for(num_blocks, 1, [&](int64_t index, int64_t, int) {
    const int64_t block = state.turned_blocks[static_cast<size_t>(index)] * block_elements(shape);
    const int64_t valid = state.num_valid[static_cast<size_t>(index)];
    std::memset(dcache.keys.fp32() + block, 0, sizeof(float) * static_cast<size_t>(block_elements(shape)));
    std::memset(dcache.values.fp32() + block, 0, sizeof(float) * static_cast<size_t>(block_elements(shape)));
    for (int64_t h = 0; h < K; ++h) {
      const float* keys = cache.keys.fp32() + block + h * head_elements(shape);
      const float* values = cache.values.fp32() + block + h * head_elements(shape);
      float* keys_out = turned_keys + (index * K + h) * kAttentionBlock * ld;
      float* values_out = turned_values + index * block_elements(shape) + h * head_elements(shape);
      for (int64_t j = 0; j < kAttentionBlock; ++j) {
        for (int64_t d = 0; d < D; ++d) {
          keys_out[j * ld + d] = j < valid ? keys[d * kAttentionBlock + j] : 0.0f;
          values_out[d * kAttentionBlock + j] = j < valid ? values[j * D + d] : 0.0f;
        }
        for (int64_t d = D; d < ld; ++d) keys_out[j * ld + d] = 0.0f;
      }
    }
  });
}

// Where a (tile, kv head) of a wave keeps what the second pass reads.
struct WavePlace {
  float *p, *ds, *q, *dout;
  static int64_t elements(int64_t rows, int64_t num_blocks, int64_t ld) {
    return 2 * rows * (num_blocks * kAttentionBlock + ld);
  }
  WavePlace(float* at, int64_t rows, int64_t num_blocks, int64_t ld)
      : p(at),
        ds(p + rows * num_blocks * kAttentionBlock),
        q(ds + rows * num_blocks * kAttentionBlock),
        dout(q + rows * ld) {}
};

}  // namespace

void attention_backward(ThreadPool& pool, AttentionWorkspace& workspace, float* dq, int64_t ld_dq,
                        const KvBlocks& dcache, const float* dout, int64_t ld_dout, const float* out, int64_t ld_out,
                        const float* lse, const float* q, int64_t ld_q, const KvBlocks& cache,
                        const AttentionShape& shape, float scale, const SequenceSlice* slices, int64_t num_slices) {
  workspace.reserve(pool, shape, 0);
  State& state = workspace.state();
  list_query_tiles(state.tiles, slices, num_slices, "attention_backward");
  const std::vector<int64_t> table_begins = number_blocks(state, slices, num_slices);
  turn_blocks(pool, state, cache, dcache, shape);
  const AttentionKernels& kernel = attention_kernels();
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim, group = H / K,
                ld = padded_head_dim(shape);
  const auto num_tiles = static_cast<int64_t>(state.tiles.size());
  const auto num_turned = static_cast<int64_t>(state.turned_blocks.size());
  const auto rows_of = [&](const QueryTile& tile) { return tile.num_rows * group; };
  const auto turned_table = [&](const QueryTile& tile) {
    return state.turned_tables.data() + table_begins[static_cast<size_t>(tile.slice - slices)];
  };

  for (int64_t first = 0; first < num_tiles;) {
    // The tiles [first, last) of this wave, and where each keeps its part.
    state.tile_offsets.clear();
    int64_t last = first, wave_elements = 0;
    while (last < num_tiles && ((last - first) * K < kMinWaveTasks || wave_elements < kWaveElements)) {
      const QueryTile& tile = state.tiles[static_cast<size_t>(last++)];
      state.tile_offsets.push_back(wave_elements);
      wave_elements += K * WavePlace::elements(rows_of(tile), tile.num_blocks(), ld);
    }
    float* wave = state.wave.grow(wave_elements);
    const auto place_of = [&](int64_t t, int64_t h) {
      const QueryTile& tile = state.tiles[static_cast<size_t>(t)];
      const int64_t elements = WavePlace::elements(rows_of(tile), tile.num_blocks(), ld);
      return WavePlace(wave + state.tile_offsets[static_cast<size_t>(t - first)] + h * elements, rows_of(tile),
                       tile.num_blocks(), ld);
    };

    pool.parallel_for((last - first) * K, 1, [&](int64_t task, int64_t, int thread_index) {
      const int64_t t = last - 1 - task / K, h = task % K;
      const QueryTile& tile = state.tiles[static_cast<size_t>(t)];
      const WavePlace place = place_of(t, h);
      const int64_t rows = rows_of(tile);
      State::Thread& thread = state.threads[static_cast<size_t>(thread_index)];
      float* lse_rows = thread.floats.grow(2 * rows + 2 * kMaxRowTile * D);
      float* delta = lse_rows + rows;
      int* num_tail = thread.num_tail.data();
      float** dq_rows = thread.rows.data();
      const size_t row_bytes = sizeof(float) * static_cast<size_t>(D),
                   pad_bytes = sizeof(float) * static_cast<size_t>(ld - D);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = tile.row + r / group, head = h * group + r % group;
        const float* dout_row = dout + row * ld_dout + head * D;
        std::memcpy(place.q + r * ld, q + row * ld_q + head * D, row_bytes);
        std::memcpy(place.dout + r * ld, dout_row, row_bytes);
        std::memset(place.q + r * ld + D, 0, pad_bytes);
        std::memset(place.dout + r * ld + D, 0, pad_bytes);
        lse_rows[r] = lse[row * H + head];
        delta[r] = kernel.dot(dout_row, out + row * ld_out + head * D, D);
        num_tail[r] = static_cast<int>((tile.position + r / group) % kAttentionBlock + 1);
        dq_rows[r] = dq + row * ld_dq + head * D;
      }
      BackwardTile backward;
      backward.context = {cache.keys.fp32() + h * head_elements(shape),
                          nullptr,
                          tile.slice->block_table,
                          block_elements(shape),
                          tile.num_blocks(),
                          D,
                          scale};
      backward.turned_keys = state.turned_keys.data() + h * kAttentionBlock * ld;
      backward.turned_values = state.turned_values.data() + h * head_elements(shape);
      backward.turned_table = turned_table(tile);
      backward.turned_key_stride = K * kAttentionBlock * ld;
      backward.turned_value_stride = block_elements(shape);
      backward.q = place.q;
      backward.dout = place.dout;
      backward.interleaved_q = delta + rows;
      backward.interleaved_dout = backward.interleaved_q + kMaxRowTile * D;
      backward.num_tail = num_tail;
      backward.lse = lse_rows;
      backward.delta = delta;
      backward.p = place.p;
      backward.ds = place.ds;
      backward.dq = dq_rows;
      backward.rows = rows;
      kernel.backward_tile(backward);
    });

    // For every block the (tile, place in its table) pairs that saw it, in order of tiles.
    state.list_begin.assign(static_cast<size_t>(num_turned) + 1, 0);
    for (int64_t t = first; t < last; ++t) {
      const QueryTile& tile = state.tiles[static_cast<size_t>(t)];
      for (int64_t b = 0; b < tile.num_blocks(); ++b)
        state.list_begin[static_cast<size_t>(turned_table(tile)[b]) + 1]++;
    }
    for (size_t i = 1; i < state.list_begin.size(); ++i) state.list_begin[i] += state.list_begin[i - 1];
    state.list_at.assign(state.list_begin.begin(), state.list_begin.end() - 1);
    state.list.resize(static_cast<size_t>(state.list_begin.back()) * 2);
    for (int64_t t = first; t < last; ++t) {
      const QueryTile& tile = state.tiles[static_cast<size_t>(t)];
      for (int64_t b = 0; b < tile.num_blocks(); ++b) {
        const auto at = static_cast<size_t>(state.list_at[static_cast<size_t>(turned_table(tile)[b])]++) * 2;
        state.list[at] = t;
        state.list[at + 1] = b;
      }
    }

    pool.parallel_for(num_turned * K, 1, [&](int64_t task, int64_t, int thread_index) {
      const int64_t index = task / K, h = task % K;
      const int64_t begin = state.list_begin[static_cast<size_t>(index)],
                    end = state.list_begin[static_cast<size_t>(index) + 1];
      if (begin == end) return;
      std::vector<BlockGradientPart>& parts = state.threads[static_cast<size_t>(thread_index)].parts;
      const int64_t at =
          state.turned_blocks[static_cast<size_t>(index)] * block_elements(shape) + h * head_elements(shape);
      for (bool values : {true, false}) {
        parts.clear();
        for (int64_t i = begin; i < end; ++i) {
          const int64_t t = state.list[static_cast<size_t>(i) * 2], b = state.list[static_cast<size_t>(i) * 2 + 1];
          const int64_t rows = rows_of(state.tiles[static_cast<size_t>(t)]);
          const WavePlace place = place_of(t, h);
          parts.push_back(
              {(values ? place.p : place.ds) + b * rows * kAttentionBlock, values ? place.dout : place.q, rows});
        }
        kernel.block_gradient((values ? dcache.values : dcache.keys).fp32() + at, D, ld, parts.data(), end - begin);
      }
    });
    first = last;
  }
}

}  // namespace wideseek
