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

// The same for all threads of a warp, and the compiler sees it.
__device__ __forceinline__ int warpgroup_id() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
}
__device__ __forceinline__ int warp_of_group() { return warp_id() % (kWarpgroupThreads / 32); }

// Named barriers: a warpgroup's own, and its turn among the consumers. 0 is that of __syncthreads().
__device__ __forceinline__ void sync_consumer(int consumer) { sync_threads(1 + consumer, kWarpgroupThreads); }
__device__ __forceinline__ void wait_turn(int consumer) {
  sync_threads(1 + kConsumers + consumer, kConsumers * kWarpgroupThreads);
}
__device__ __forceinline__ void give_turn(int consumer) {
  arrive_threads(1 + kConsumers + consumer, kConsumers * kWarpgroupThreads);
}

// One arrival for each warp.
__device__ __forceinline__ void release(SharedAddress barrier) {
  if (lane_id() == 0) arrive(barrier);
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

}  // namespace wideseek::cuda
