// What the attention kernels for compute capability 9.0 share: a block is a warpgroup that brings operands to shared
// memory and two that compute, with barriers between them for every stage.
#pragma once

#include "cuda/attention_tile.h"
#include "cuda/hopper.h"

namespace wideseek::cuda {

constexpr int kConsumers = 2;  // warpgroups that compute, 64 rows each
constexpr int kHopperThreads = (1 + kConsumers) * kWarpgroupThreads;
static_assert(kConsumers * kProductRows == kTileRows);
// What a thread may have of 65,536 registers for 3 x 128 threads: few to bring operands, many to compute.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

constexpr int kBlockKeys = static_cast<int>(kKvBlockTokens);
template <int D>
constexpr uint32_t kBlockBytes = kBlockKeys * kRowBytes<D>;  // of keys or values of one head

// Named barriers: a warpgroup's own, and its turn among the consumers. 0 is that of __syncthreads().
__device__ __forceinline__ void sync_consumer(int consumer) { sync_threads(1 + consumer, kWarpgroupThreads); }
__device__ __forceinline__ void wait_turn(int consumer) {
  sync_threads(1 + kConsumers + consumer, kConsumers * kWarpgroupThreads);
}
__device__ __forceinline__ void give_turn(int consumer) {
  arrive_threads(1 + kConsumers + consumer, kConsumers * kWarpgroupThreads);
}

// Starts the copies of rows [0, kRows) to an operand tile by kThreads threads, of which this is number `thread`.
// source(row) is null for a row of zeros; `any` is a readable address.
template <int D, int kRows, int kThreads, typename Source>
__device__ __forceinline__ void copy_operand_rows(SharedAddress tile, const BF16* any, int thread, Source&& source) {
  constexpr int kStep = kThreads / kRowChunks<D>;
  static_assert(kRows % kStep == 0 && kStep % 8 == 0);
  const int first = thread / kRowChunks<D>, chunk = thread % kRowChunks<D>;
  const SharedAddress to = tile + static_cast<uint32_t>(operand_chunk<D>(first, chunk) * 16);
  WS_UNROLL
  for (int row = 0; row < kRows; row += kStep) {
    const BF16* from = source(first + row);
    copy_async<16>(to + static_cast<uint32_t>(row * kRowBytes<D>), (from == nullptr ? any : from) + chunk * 8,
                   from != nullptr);
  }
}

// By one warp: starts the copies of `count` blocks of keys or values, whose numbers are table[0, count), to a tile.
template <int D>
__device__ __forceinline__ void copy_blocks(SharedAddress tile, const BF16* all, const Heads& heads,
                                            const int32_t* table, int count, int kv_head, SharedAddress barrier) {
  const int lane = lane_id();
  if (lane == 0) arrive_expecting(barrier, static_cast<uint32_t>(count) * kBlockBytes<D>);
  __syncwarp();  // the barrier knows before the first copy is done
  if (lane < count) {
    copy_bulk(tile + static_cast<uint32_t>(lane) * kBlockBytes<D>, all + kv_block_offset(heads, table[lane], kv_head),
              kBlockBytes<D>, barrier);
  }
}

// By one warp: writes rows [first_row, kRows) of a tile, first_row a multiple of 16. Those below num_rows come from the
// blocks of table, the rest are zeros: what lies there in the cache, NaN even, must not meet a weight of 0.
template <int D, int kRows>
__device__ __forceinline__ void copy_last_rows(SharedAddress tile, const BF16* all, const Heads& heads,
                                               const int32_t* table, int first_row, int num_rows, int kv_head) {
  constexpr int kBlockChunks = kBlockKeys * kRowChunks<D>;
  for (int i = first_row * kRowChunks<D> + lane_id(); i < kRows * kRowChunks<D>; i += 32) {
    const bool valid = operand_row<D>(i) < num_rows;
    const int64_t from =
        valid ? kv_block_offset(heads, table[i / kBlockChunks], kv_head) + i % kBlockChunks * int64_t{8} : 0;
    copy_async<16>(tile + static_cast<uint32_t>(i * 16), all + from, valid);
  }
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  __syncwarp();  // before a lane reports it to a barrier
}

// ---- kernels of query tiles: keys and values come in steps of 128 from position 0, through a ring of two stages

constexpr int kRingKeys = 128, kRingStages = 2;

// Shared memory: the stages of keys and values, and for each of both a barrier that tells that it is full and one that
// it is empty.
template <int D>
struct KeyRing {
  static constexpr uint32_t kTileBytes = kRingKeys * kRowBytes<D>, kBarriersAt = 2 * kRingStages * kTileBytes,
                            kBytes = kBarriersAt + 4 * kRingStages * 8;
  SharedAddress first;
  __device__ SharedAddress keys(int stage) const { return first + stage * 2 * kTileBytes; }
  __device__ SharedAddress values(int stage) const { return keys(stage) + kTileBytes; }
  __device__ SharedAddress full_keys(int stage) const { return first + kBarriersAt + stage * 8; }
  __device__ SharedAddress empty_keys(int stage) const { return full_keys(stage) + kRingStages * 8; }
  __device__ SharedAddress full_values(int stage) const { return full_keys(stage) + 2 * kRingStages * 8; }
  __device__ SharedAddress empty_values(int stage) const { return full_keys(stage) + 3 * kRingStages * 8; }

  // By one thread.
  __device__ __forceinline__ void start_barriers(int consumers) const {
    for (int stage = 0; stage < kRingStages; ++stage) {
      init_mbarrier(full_keys(stage), 1);
      init_mbarrier(full_values(stage), 1);
      init_mbarrier(empty_keys(stage), consumers * kWarpgroupThreads / 32);
      init_mbarrier(empty_values(stage), consumers * kWarpgroupThreads / 32);
    }
    publish_mbarriers();
  }
};

// Which query tile the block takes.
struct QueryPlace {
  int kv_head;
  const QueryTile& tile;

  __device__ __forceinline__ QueryPlace(const Heads& heads, const QueryTile* tiles)
      : kv_head(static_cast<int>(blockIdx.x % static_cast<unsigned>(heads.num_kv_heads))),
        tile(tiles[blockIdx.x / static_cast<unsigned>(heads.num_kv_heads)]) {}
  // The keys that rows of the tile attend to.
  __device__ __forceinline__ int first() const { return 0; }
  __device__ __forceinline__ int end() const { return tile.position + tile.num_rows; }
  // Of the sequence.
  __device__ __forceinline__ int table() const { return tile.table; }
  __device__ __forceinline__ int length() const { return tile.length; }
  __device__ __forceinline__ PackedRows rows(const Heads& heads) const {
    return {heads, tile.row, tile.num_rows, kv_head};
  }
  // Warpgroups that have rows.
  __device__ __forceinline__ int consumers(const Heads& heads) const {
    return tile.num_rows * heads.group <= kProductRows ? 1 : kConsumers;
  }
};

// By one warp, from key place.first() on, a multiple of a step. Keys that no row of the tile attends to come along
// where they are stored, for they weigh 0; those past the sequence are zeros.
template <int D, typename Place>
__device__ __forceinline__ void bring_keys_and_values(const KeyRing<D>& ring, const BF16* keys, const BF16* values,
                                                      const Heads& heads, const int32_t* tables, const Place& place) {
  constexpr int kStepBlocks = kRingKeys / kBlockKeys;
  const int num_keys = place.end() - place.first(), kv_head = place.kv_head;
  const int32_t* table = tables + place.table() + place.first() / kBlockKeys;
  for (int step = 0; step * kRingKeys < num_keys; ++step, table += kStepBlocks) {
    const int stage = step % kRingStages, left = place.length() - place.first() - step * kRingKeys;
    const int whole = left < kRingKeys ? left / kBlockKeys : kStepBlocks;
    wait_phase(ring.empty_keys(stage), step / kRingStages - 1);
    if (whole < kStepBlocks)
      copy_last_rows<D, kRingKeys>(ring.keys(stage), keys, heads, table, whole * kBlockKeys, left, kv_head);
    copy_blocks<D>(ring.keys(stage), keys, heads, table, whole, kv_head, ring.full_keys(stage));
    wait_phase(ring.empty_values(stage), step / kRingStages - 1);
    if (whole < kStepBlocks)
      copy_last_rows<D, kRingKeys>(ring.values(stage), values, heads, table, whole * kBlockKeys, left, kv_head);
    copy_blocks<D>(ring.values(stage), values, heads, table, whole, kv_head, ring.full_values(stage));
  }
}

// By a computing warpgroup: starts the copies of its 64 rows of a tile, those of no query being zeros, from rows of
// `width` to an operand tile.
template <int D>
__device__ __forceinline__ void copy_query_rows(SharedAddress tile, const BF16* from, const PackedRows& rows,
                                                int64_t width, int consumer) {
  copy_operand_rows<D, kProductRows, kWarpgroupThreads>(
      tile, from, static_cast<int>(threadIdx.x) % kWarpgroupThreads, [&](int row) {
        row += consumer * kProductRows;
        return row < rows.num_rows ? from + rows.element_of(row, width, D) : nullptr;
      });
}
// Waits for them, and shows them to the products of the warpgroup.
__device__ __forceinline__ void show_copies(int consumer) {
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  sync_consumer(consumer);
}

}  // namespace wideseek::cuda
