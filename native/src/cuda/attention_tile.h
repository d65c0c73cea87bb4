// What the tensor-core attention kernels share: bf16 tiles [rows][D] in shared memory, products of tiles by one warp,
// and packed query rows. A tile's 16-byte chunk c of row r lies at chunk c ^ (r % 8) of the row, so that the eight rows
// which ldmatrix reads at a time, and those which a warp writes, are in different banks.
//
// Calls are made by whole warps. Row offsets that are added to a tile's address are multiples of 8.
#pragma once

#include "cuda/attention_plan.h"
#include "cuda/kv_store.h"
#include "cuda/mma.h"

namespace wideseek::cuda {

constexpr int kAttentionThreads = 128;
constexpr int kAttentionWarps = kAttentionThreads / 32;

template <int D>
constexpr int kRowBytes = D * static_cast<int>(sizeof(BF16));
template <int D>
constexpr int kRowChunks = D / 8;

template <int D>
__device__ __forceinline__ SharedAddress chunk_address(SharedAddress tile, int row, int chunk) {
  return tile + static_cast<uint32_t>(row * kRowBytes<D> + ((chunk ^ (row & 7)) << 4));
}

// Starts the copies of rows [0, kRows) to a tile, by all threads of the block. source(row) is null for a row of zeros;
// `any` is a readable address.
template <int D, int kRows, typename Source>
__device__ __forceinline__ void copy_rows(SharedAddress tile, const BF16* any, Source&& source) {
  constexpr int kStep = kAttentionThreads / kRowChunks<D>;
  static_assert(kRows % kStep == 0 && kStep % 8 == 0);
  const int first = static_cast<int>(threadIdx.x) / kRowChunks<D>,
            chunk = static_cast<int>(threadIdx.x) % kRowChunks<D>;
  SharedAddress to = chunk_address<D>(tile, first, chunk);
  WS_UNROLL
  for (int row = 0; row < kRows; row += kStep) {
    const BF16* from = source(first + row);
    copy_async<16>(to + static_cast<uint32_t>(row * kRowBytes<D>), (from == nullptr ? any : from) + chunk * 8,
                   from != nullptr);
  }
}

// Starts the copies of the keys and values at positions [first, first + kRows) of one kv head to two tiles, first being
// a multiple of 16; those from `end` on are zeros, whatever lies there.
template <int D, int kRows>
__device__ __forceinline__ void copy_keys_and_values(SharedAddress key_tile, SharedAddress value_tile, const BF16* keys,
                                                     const BF16* values, const Heads& heads, const int32_t* table,
                                                     int kv_head, int first, int end) {
  constexpr int kStep = kAttentionThreads / kRowChunks<D>, kBlock = static_cast<int>(kKvBlockTokens);
  static_assert(kStep % 8 == 0 && kBlock % kStep == 0);
  const int own = static_cast<int>(threadIdx.x) / kRowChunks<D>, chunk = static_cast<int>(threadIdx.x) % kRowChunks<D>;
  const SharedAddress to = chunk_address<D>(0, own, chunk);
  const int in_block = operand_chunk<D>(own, chunk) * 8;
  WS_UNROLL
  for (int row = 0; row < kRows; row += kStep) {
    const bool valid = first + row + own < end;
    const int64_t from =
        valid ? kv_block_offset(heads, table[(first + row) / kBlock], kv_head) + row % kBlock * D + in_block : 0;
    copy_async<16>(key_tile + to + static_cast<uint32_t>(row * kRowBytes<D>), keys + from, valid);
    copy_async<16>(value_tile + to + static_cast<uint32_t>(row * kRowBytes<D>), values + from, valid);
  }
}

template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void set_zero(float (&acc)[kRowTiles][kColumnTiles][4]) {
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int n = 0; n < kColumnTiles; ++n) {
      WS_UNROLL
      for (int e = 0; e < 4; ++e) acc[i][n][e] = 0;
    }
  }
}

// acc [16 kRowTiles, 8 kColumnTiles] = A B^T, of the first rows of tiles a and b.
template <int D, int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void product(float (&acc)[kRowTiles][kColumnTiles][4], SharedAddress a, SharedAddress b) {
  const int lane = lane_id();
  const int a_row = lane % 16, b_row = lane / 16 * 8 + lane % 8;
  // The chunks of step k are 2k and 2k + 1, and lanes differ in the last bit and the row alone.
  const uint32_t a_chunk = static_cast<uint32_t>(((lane / 16) ^ (a_row & 7)) << 4);
  const uint32_t b_chunk = static_cast<uint32_t>(((lane / 8 % 2) ^ (b_row & 7)) << 4);
  a += static_cast<uint32_t>(a_row * kRowBytes<D>);
  b += static_cast<uint32_t>(b_row * kRowBytes<D>);
  set_zero(acc);
  WS_UNROLL
  for (int k = 0; k < D / 16; ++k) {
    uint32_t rows[kRowTiles][4];
    WS_UNROLL
    for (int i = 0; i < kRowTiles; ++i)
      load_matrices<false>(rows[i], a + static_cast<uint32_t>(i * 16 * kRowBytes<D>) + (a_chunk ^ (k * 32)));
    WS_UNROLL
    for (int n = 0; n < kColumnTiles; n += 2) {
      uint32_t columns[4];
      load_matrices<false>(columns, b + static_cast<uint32_t>(n * 8 * kRowBytes<D>) + (b_chunk ^ (k * 32)));
      WS_UNROLL
      for (int i = 0; i < kRowTiles; ++i) {
        multiply_add(acc[i][n], rows[i], columns[0], columns[1]);
        multiply_add(acc[i][n + 1], rows[i], columns[2], columns[3]);
      }
    }
  }
}

// acc [16 kRowTiles, D] += W B, W [16 kRowTiles, 8 kInnerTiles] rounded to bf16, B the first rows of a tile.
template <int D, int kRowTiles, int kInnerTiles>
__device__ __forceinline__ void add_product(float (&acc)[kRowTiles][D / 8][4],
                                            const float (&weights)[kRowTiles][kInnerTiles][4], SharedAddress b) {
  const int lane = lane_id();
  const int b_row = lane % 16;
  const uint32_t b_chunk = static_cast<uint32_t>(((lane / 16) ^ (b_row & 7)) << 4);
  b += static_cast<uint32_t>(b_row * kRowBytes<D>);
  WS_UNROLL
  for (int k = 0; k < kInnerTiles; k += 2) {
    uint32_t rows[kRowTiles][4];
    WS_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      rows[i][0] = pack_bf16(weights[i][k][0], weights[i][k][1]);
      rows[i][1] = pack_bf16(weights[i][k][2], weights[i][k][3]);
      rows[i][2] = pack_bf16(weights[i][k + 1][0], weights[i][k + 1][1]);
      rows[i][3] = pack_bf16(weights[i][k + 1][2], weights[i][k + 1][3]);
    }
    WS_UNROLL
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t columns[4];
      load_matrices<true>(columns, b + static_cast<uint32_t>(k * 8 * kRowBytes<D>) + (b_chunk ^ (n * 16)));
      WS_UNROLL
      for (int i = 0; i < kRowTiles; ++i) {
        multiply_add(acc[i][n], rows[i], columns[0], columns[1]);
        multiply_add(acc[i][n + 1], rows[i], columns[2], columns[3]);
      }
    }
  }
}

// Writes acc as bf16 to the warp's own rows of a tile and from there, 16 bytes at a time, to destination(row), unless
// that is null. No other warp may read those rows of the tile any more.
template <int D, int kRowTiles, typename Destination>
__device__ __forceinline__ void store_rows(const float (&acc)[kRowTiles][D / 8][4], SharedAddress tile,
                                           Destination&& destination) {
  const int lane = lane_id();
  __syncwarp();
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int n = 0; n < D / 8; ++n) {
      WS_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = i * 16 + half * 8 + lane / 4;
        store_shared(chunk_address<D>(tile, row, n) + static_cast<uint32_t>(lane % 4 * 4),
                     pack_bf16(acc[i][n][half * 2], acc[i][n][half * 2 + 1]));
      }
    }
  }
  __syncwarp();
  for (int at = lane; at < kRowTiles * 16 * kRowChunks<D>; at += 32) {
    const int row = at / kRowChunks<D>, chunk = at % kRowChunks<D>;
    BF16* to = destination(row);
    if (to != nullptr) *reinterpret_cast<uint4*>(to + chunk * 8) = load_shared_16(chunk_address<D>(tile, row, chunk));
  }
  __syncwarp();  // the rows may be written again
}

// r / group, for r < 2 * kTileRows.
__device__ __forceinline__ int packed_position(int r, uint32_t per_group) {
  return static_cast<int>(static_cast<uint32_t>(r) * per_group >> 16);
}

// The packed query rows of one kv head from row `first` of the batch on: row r is head r % group at row r / group.
struct PackedRows {
  int64_t first;
  int32_t num_rows;  // packed
  int32_t group, kv_head, num_heads;
  uint32_t per_group;
  const int32_t* members;  // the rows of the batch, if they are not consecutive; else null

  __device__ __forceinline__ PackedRows(const Heads& heads, int64_t first_, int32_t num_positions, int32_t kv_head_,
                                        const int32_t* members_ = nullptr)
      : first(first_),
        num_rows(num_positions * heads.group),
        group(heads.group),
        kv_head(kv_head_),
        num_heads(heads.num_heads),
        per_group(heads.per_group),
        members(members_) {}
  __device__ __forceinline__ int position_of(int r) const { return packed_position(r, per_group); }
  // Which row of the batch a position is.
  __device__ __forceinline__ int64_t row_at(int position) const {
    return members == nullptr ? first + position : members[position];
  }
  // Which of the batch's T * H heads row r is.
  __device__ __forceinline__ int64_t head_of(int r) const {
    const int position = position_of(r);
    return row_at(position) * num_heads + kv_head * group + (r - position * group);
  }
  // Its elements in rows of `width` that begin with the heads' D elements.
  __device__ __forceinline__ int64_t element_of(int r, int64_t width, int D) const {
    const int position = position_of(r);
    return row_at(position) * width + int64_t{kv_head * group + (r - position * group)} * D;
  }
};

// Scores or weights of keys past the row's position become `masked`. `limit` is the position of packed row 0 of the
// tile less that of the first key; the warp's rows begin at first_row.
template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void mask_later_keys(float (&scores)[kRowTiles][kColumnTiles][4], const Heads& heads,
                                                int first_row, int limit, float masked) {
  const int lane = lane_id();
  WS_UNROLL
  for (int i = 0; i < kRowTiles; ++i) {
    WS_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int last = limit + packed_position(first_row + i * 16 + half * 8 + lane / 4, heads.per_group);
      WS_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) {
        WS_UNROLL
        for (int e = 0; e < 2; ++e) {
          if (n * 8 + lane % 4 * 2 + e > last) scores[i][n][half * 2 + e] = masked;
        }
      }
    }
  }
}

}  // namespace wideseek::cuda
