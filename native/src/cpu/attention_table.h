// What attention.cc and attention_backward.cc need from one instruction set. A "tile" is the queries of one slice
// inside one block of 16 positions, times the query heads of one kv head; a "row" is one (query, head) of it,
// query-major.
#pragma once

#include <cstdint>

namespace wideseek {

// Keys and values of one sequence, one kv head: block b is at keys + table[b] * block_stride, [D][16], and at
// values + table[b] * block_stride, [16][D].
struct AttentionContext {
  const float* keys;
  const float* values;
  const int32_t* table;
  int64_t block_stride;
  int64_t num_blocks;  // the last one is the queries' own
  int64_t head_dim;
  float scale;
};

// Rows that a kernel works on at once.
constexpr int64_t kMaxRowTile = 6;

struct ForwardTile {
  AttentionContext context;
  const float* q;        // [rows][D]
  const int* num_tail;   // [rows] keys of the last block that the row sees, 1..16
  float* interleaved_q;  // scratch [kMaxRowTile * D]
  float* scores;         // scratch [kMaxRowTile * num_blocks * 16]
  float* const* out;     // [rows] pointers to [D]
  float* lse;            // [rows]
  int64_t rows;
};

struct BackwardTile {
  AttentionContext context;  // values are not used
  // Copies of the blocks in the other order, at turned_* + turned_table[b] * turned_*_stride. ld = D rounded up to 16.
  const float* turned_keys;    // [16][ld], zero past the stored keys and past D
  const float* turned_values;  // [D][16]
  const int32_t* turned_table;
  int64_t turned_key_stride;
  int64_t turned_value_stride;
  const float* q;           // [rows][ld], zero padded
  const float* dout;        // [rows][ld], zero padded
  float* interleaved_q;     // scratch [kMaxRowTile * D]
  float* interleaved_dout;  // scratch [kMaxRowTile * D]
  const int* num_tail;      // [rows] keys of the last block that the row sees, 1..16
  const float* lse;         // [rows]
  const float* delta;       // [rows] sum over d of dout * out
  float* p;                 // [num_blocks][rows][16], 0 where masked
  float* ds;                // [num_blocks][rows][16] gradient of the dot product q . k, 0 where masked
  float* const* dq;         // [rows] pointers to [D]
  int64_t rows;
};

// The rows of one tile that attend to a block.
struct BlockGradientPart {
  const float* weights;  // [rows][16]: p for values, ds for keys
  const float* rows_in;  // [rows][ld]: dout for values, q for keys
  int64_t rows;
};

struct AttentionKernels {
  void (*forward_tile)(const ForwardTile& tile);
  void (*backward_tile)(const BackwardTile& tile);
  // gradient [16][D] += weights^T rows_in: one fma chain over the rows of the parts, in order, from what is there.
  void (*block_gradient)(float* gradient, int64_t head_dim, int64_t ld, const BlockGradientPart* parts,
                         int64_t num_parts);
  float (*dot)(const float* x, const float* y, int64_t n);
};

extern const AttentionKernels attention_kernels_portable;
#if defined(__x86_64__)
extern const AttentionKernels attention_kernels_avx2;
extern const AttentionKernels attention_kernels_avx512;
#endif

}  // namespace wideseek
