// What attention.cc and attention_backward.cc share: the tiles of a call, the workspace, the choice of kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/attention.h"
#include "cpu/attention_table.h"

namespace wideseek {

const AttentionKernels& attention_kernels();

// The queries of one slice inside one block of 16 positions: rows [row, row + num_rows) at positions [position, ...).
struct QueryTile {
  const SequenceSlice* slice;
  int64_t row;
  int64_t num_rows;
  int64_t position;
  int64_t num_blocks() const { return position / kAttentionBlock + 1; }
};

// In order of slices, then of rows. Throws kInvalidArgument for slices that make no sense.
void list_query_tiles(std::vector<QueryTile>& tiles, const SequenceSlice* slices, int64_t num_slices, const char* op);

inline int64_t padded_head_dim(const AttentionShape& shape) { return (shape.head_dim + 15) / 16 * 16; }
// Elements of one block, and of the part of one kv head in it.
inline int64_t block_elements(const AttentionShape& shape) {
  return kAttentionBlock * shape.num_kv_heads * shape.head_dim;
}
inline int64_t head_elements(const AttentionShape& shape) { return kAttentionBlock * shape.head_dim; }

struct AttentionWorkspace::State {
  struct Thread {
    AlignedBuffer<float> floats;
    AlignedBuffer<int> num_tail;
    AlignedBuffer<float*> rows;
    std::vector<BlockGradientPart> parts;
  };
  std::vector<Thread> threads;
  std::vector<QueryTile> tiles;
  // Backward pass.
  AlignedBuffer<float> turned_keys, turned_values, wave;
  std::vector<int32_t> turned_index;   // by physical block; -1 = not used in this call
  std::vector<int32_t> turned_blocks;  // physical blocks in use
  std::vector<int32_t> num_valid;      // stored tokens of each
  std::vector<int32_t> turned_tables;  // of all slices
  std::vector<int64_t> tile_offsets, list_begin, list_at;
  std::vector<int64_t> list;
};

}  // namespace wideseek
