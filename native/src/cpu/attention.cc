// Forward attention: work division and the movement of rows in and out of blocks; the inner loops are in
// attention_kernels.h.
#include "cpu/attention.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"
#include "cpu/attention_state.h"
#include "cpu/isa.h"

namespace wideseek {
namespace {

void check_shape(const AttentionShape& shape, const char* op) {
  WS_CHECK(
      shape.num_kv_heads > 0 && shape.num_heads > 0 && shape.num_heads % shape.num_kv_heads == 0 && shape.head_dim > 0,
      kInvalidArgument, op,
      "num_heads " + std::to_string(shape.num_heads) + ", num_kv_heads " + std::to_string(shape.num_kv_heads) +
          ", head_dim " + std::to_string(shape.head_dim) + "; kv heads must divide heads");
}

}  // namespace

const AttentionKernels& attention_kernels() {
#if defined(__x86_64__)
  return select_for_isa(&attention_kernels_avx512, &attention_kernels_avx2, &attention_kernels_portable);
#else
  return select_for_isa<AttentionKernels>(nullptr, nullptr, &attention_kernels_portable);
#endif
}

void list_query_tiles(std::vector<QueryTile>& tiles, const SequenceSlice* slices, int64_t num_slices, const char* op) {
  tiles.clear();
  for (int64_t s = 0; s < num_slices; ++s) {
    const SequenceSlice& slice = slices[s];
    WS_CHECK(slice.first_row >= 0 && slice.num_rows >= 0 && slice.first_position >= 0, kInvalidArgument, op,
             "slice " + std::to_string(s) + " has first_row " + std::to_string(slice.first_row) + ", num_rows " +
                 std::to_string(slice.num_rows) + ", first_position " + std::to_string(slice.first_position));
    for (int64_t i = 0; i < slice.num_rows;) {
      const int64_t position = slice.first_position + i;
      const int64_t count = std::min(slice.num_rows - i, kAttentionBlock - position % kAttentionBlock);
      tiles.push_back({&slice, slice.first_row + i, count, position});
      i += count;
    }
  }
}

AttentionWorkspace::AttentionWorkspace() : state_(std::make_unique<State>()) {}
AttentionWorkspace::~AttentionWorkspace() = default;

void AttentionWorkspace::reserve(const ThreadPool& pool, const AttentionShape& shape, int64_t max_context) {
  check_shape(shape, "AttentionWorkspace::reserve");
  const int64_t rows = kAttentionBlock * shape.num_heads / shape.num_kv_heads;
  const int64_t num_blocks = std::max<int64_t>(1, (max_context + kAttentionBlock - 1) / kAttentionBlock);
  state_->threads.resize(std::max(state_->threads.size(), static_cast<size_t>(pool.size())));
  for (State::Thread& thread : state_->threads) {
    thread.floats.grow(rows * (shape.head_dim + 1) + kMaxRowTile * (2 * shape.head_dim + num_blocks * kAttentionBlock));
    thread.num_tail.grow(rows);
    thread.rows.grow(rows);
  }
}

int64_t AttentionWorkspace::bytes() const {
  int64_t floats = state_->turned_keys.size() + state_->turned_values.size() + state_->wave.size();
  for (const State::Thread& thread : state_->threads) floats += thread.floats.size();
  return floats * static_cast<int64_t>(sizeof(float));
}

void kv_store(ThreadPool& pool, const KvBlocks& cache, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
              const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices) {
  check_shape(shape, "kv_store");
  std::vector<QueryTile> tiles;
  list_query_tiles(tiles, slices, num_slices, "kv_store");
  const int64_t K = shape.num_kv_heads, D = shape.head_dim;
  constexpr int64_t kGrain = 4;
  pool.parallel_for(static_cast<int64_t>(tiles.size()), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const QueryTile& tile = tiles[static_cast<size_t>(t)];
      const int64_t block = tile.slice->block_table[tile.position / kAttentionBlock] * block_elements(shape);
      const int64_t lane = tile.position % kAttentionBlock;
      for (int64_t h = 0; h < K; ++h) {
        float* keys = cache.keys.fp32() + block + h * head_elements(shape) + lane;
        float* values = cache.values.fp32() + block + h * head_elements(shape) + lane * D;
        for (int64_t i = 0; i < tile.num_rows; ++i) {
          const float* key = k + (tile.row + i) * ld_k + h * D;
          for (int64_t d = 0; d < D; ++d) keys[d * kAttentionBlock + i] = key[d];
          std::memcpy(values + i * D, v + (tile.row + i) * ld_v + h * D, sizeof(float) * static_cast<size_t>(D));
        }
      }
    }
  });
}

void attention_forward(ThreadPool& pool, AttentionWorkspace& workspace, float* out, int64_t ld_out, float* lse,
                       const float* q, int64_t ld_q, const KvBlocks& cache, const AttentionShape& shape, float scale,
                       const SequenceSlice* slices, int64_t num_slices) {
  int64_t max_context = 0;
  for (int64_t s = 0; s < num_slices; ++s)
    max_context = std::max(max_context, slices[s].first_position + slices[s].num_rows);
  workspace.reserve(pool, shape, max_context);
  AttentionWorkspace::State& state = workspace.state();
  list_query_tiles(state.tiles, slices, num_slices, "attention_forward");
  const AttentionKernels& kernel = attention_kernels();
  const int64_t H = shape.num_heads, K = shape.num_kv_heads, D = shape.head_dim, group = H / K;
  const auto num_tiles = static_cast<int64_t>(state.tiles.size());
  pool.parallel_for(num_tiles * K, 1, [&](int64_t task, int64_t, int thread_index) {
    // Backwards, since later tiles of a prompt are longer: the short ones fill the gaps at the end.
    const QueryTile& tile = state.tiles[static_cast<size_t>(num_tiles - 1 - task / K)];
    const int64_t h = task % K, rows = tile.num_rows * group;
    AttentionWorkspace::State::Thread& thread = state.threads[static_cast<size_t>(thread_index)];
    float* q_rows = thread.floats.data();
    float* lse_rows = q_rows + rows * D;
    int* num_tail = thread.num_tail.data();
    float** out_rows = thread.rows.data();
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = tile.row + r / group, head = h * group + r % group;
      std::memcpy(q_rows + r * D, q + row * ld_q + head * D, sizeof(float) * static_cast<size_t>(D));
      out_rows[r] = out + row * ld_out + head * D;
      num_tail[r] = static_cast<int>((tile.position + r / group) % kAttentionBlock + 1);
    }
    ForwardTile forward;
    forward.context = {cache.keys.fp32() + h * head_elements(shape),
                       cache.values.fp32() + h * head_elements(shape),
                       tile.slice->block_table,
                       block_elements(shape),
                       tile.num_blocks(),
                       D,
                       scale};
    forward.q = q_rows;
    forward.num_tail = num_tail;
    forward.interleaved_q = lse_rows + rows;
    forward.scores = forward.interleaved_q + kMaxRowTile * D;
    forward.out = out_rows;
    forward.lse = lse_rows;
    forward.rows = rows;
    kernel.forward_tile(forward);
    for (int64_t r = 0; lse != nullptr && r < rows; ++r)
      lse[(tile.row + r / group) * H + h * group + r % group] = lse_rows[r];
  });
}

void kv_gather_gradient(ThreadPool& pool, float* dk, int64_t ld_dk, float* dv, int64_t ld_dv, const KvBlocks& dcache,
                        const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices) {
  check_shape(shape, "kv_gather_gradient");
  std::vector<QueryTile> tiles;
  list_query_tiles(tiles, slices, num_slices, "kv_gather_gradient");
  const int64_t K = shape.num_kv_heads, D = shape.head_dim;
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(D);
  constexpr int64_t kGrain = 4;
  pool.parallel_for(static_cast<int64_t>(tiles.size()), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const QueryTile& tile = tiles[static_cast<size_t>(t)];
      const int64_t block = tile.slice->block_table[tile.position / kAttentionBlock] * block_elements(shape);
      for (int64_t h = 0; h < K; ++h) {
        const int64_t at = block + h * head_elements(shape) + tile.position % kAttentionBlock * D;
        for (int64_t i = 0; i < tile.num_rows; ++i) {
          std::memcpy(dk + (tile.row + i) * ld_dk + h * D, dcache.keys.fp32() + at + i * D, row_bytes);
          std::memcpy(dv + (tile.row + i) * ld_dv + h * D, dcache.values.fp32() + at + i * D, row_bytes);
        }
      }
    }
  });
}

}  // namespace wideseek
