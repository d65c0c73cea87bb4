// Products of few rows by layers whose sums have several chunks: blocks that compute all chunks of a tile side by side,
// a warpgroup each, and the sums of chunks that other kernels left in scratch.
#include "cuda/product_kernels.h"

namespace wideseek::cuda {
namespace {

constexpr int kMostThreads = (1 + kMaxChunks) * kWarpgroupThreads;
constexpr int kSumThreads = 256;

// Sums of the chunks' warpgroups, [chunk][row][feature]; behind the barriers.
template <int kFeatures>
struct ChunkSums {
  float* first;
  int rows;
  static int64_t bytes(const ProductTile& tile, int chunks) {
    return int64_t{4} * chunks * tile.loaded_rows * kFeatures;
  }
  __device__ __forceinline__ Run<float, 2>* two(int chunk, int row, int feature) const {
    return reinterpret_cast<Run<float, 2>*>(first + (chunk * rows + row) * kFeatures + feature);
  }
  __device__ __forceinline__ const Run<float, 4>* four(int chunk, int row, int feature) const {
    return reinterpret_cast<const Run<float, 4>*>(first + (chunk * rows + row) * kFeatures + feature);
  }
};

template <int kFeatures>
__device__ __forceinline__ void keep_sum(const ChunkSums<kFeatures>& sums, const float (&sum)[kFeatures / 8][4],
                                         int chunk) {
  const int lane = lane_id();
  WS_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = warp_of_group() * 16 + half * 8 + lane / 4;
    if (row >= sums.rows) continue;
    WS_UNROLL
    for (int n = 0; n < kFeatures / 8; ++n)
      *sums.two(chunk, row, n * 8 + lane % 4 * 2) = {{sum[n][half * 2], sum[n][half * 2 + 1]}};
  }
}

// By all warpgroups that compute, of which this is thread number `thread`.
template <int kFeatures>
__device__ __forceinline__ void write_totals(const ProductCall& call, const ChunkSums<kFeatures>& sums,
                                             const ProductUnit& unit, int thread) {
  const int threads = call.chunks * kWarpgroupThreads, rows = call.M < sums.rows ? call.M : sums.rows;
  for (int i = thread; i < rows * (kFeatures / 4); i += threads) {
    const int row = i / (kFeatures / 4), feature = i % (kFeatures / 4) * 4;
    if (unit.feature_tile * kFeatures + feature >= call.N) continue;
    Run<float, 4> total = *sums.four(0, row, feature);
    for (int chunk = 1; chunk < call.chunks; ++chunk) add_chunk(total, *sums.four(chunk, row, feature));
    store_four(call, static_cast<int64_t>(row) * call.N + unit.feature_tile * kFeatures + feature, total);
  }
}

// A chunk, by its warpgroup.
template <int kFeatures>
__device__ __forceinline__ void compute_chunks(const ProductCall& call, const ProductRing<kFeatures>& ring,
                                               const ChunkSums<kFeatures>& sums, int chunk) {
  const int units = ProductUnit::count(call), threads = call.chunks * kWarpgroupThreads;
  const int count = slices_of_chunk(call, chunk).count;
  RingPlace place;
  wait_for_earlier_kernels();
  WS_ROLLED
  for (int number = static_cast<int>(blockIdx.x); number < units; number += static_cast<int>(gridDim.x)) {
    float sum[kFeatures / 8][4];
    sum_chunk<kFeatures>(sum, ring, place, count, 0);
    keep_sum(sums, sum, chunk);
    sync_threads(1, threads);
    write_totals(call, sums, ProductUnit(call, number), static_cast<int>(threadIdx.x) - kWarpgroupThreads);
    sync_threads(1, threads);  // before the next unit's sums
  }
}

// A chunk has a warp that brings it, for one could not bring such small tiles fast enough, and a warpgroup.
template <int kFeatures>
__global__ void __launch_bounds__(kMostThreads, 1) side_by_side_kernel(const __grid_constant__ ProductCall call) {
  if (kHasWgmma) {
    let_next_kernel_begin();
    const SharedAddress begin = operand_shared_address();
    if (threadIdx.x == 0) {
      prefetch_map(call.weights);
      prefetch_map(call.x);
      for (int chunk = 0; chunk < call.chunks; ++chunk)
        ProductRing<kFeatures>(call, begin, chunk, call.chunks).start_barriers(kWarpgroupThreads / 32);
    }
    __syncthreads();
    const int group = warpgroup_id(), chunk = group == 0 ? warp_of_group() : group - 1;
    if (chunk >= call.chunks) return;
    const ProductRing<kFeatures> ring(call, begin, chunk, call.chunks);
    if (group > 0) {
      const ProductRing<kFeatures> past_last(call, begin, call.chunks, call.chunks);
      float* const sums = reinterpret_cast<float*>(dynamic_shared() + (past_last.barriers - begin));
      compute_chunks<kFeatures>(call, ring, {sums, call.loaded_rows}, chunk);
    } else if (lane_id() == 0) {
      bring_slices<kFeatures>(call, ring, RowsOfLayer{call, kProductRows}, chunk);
    }
  }
}

template <int kFeatures>
void run(Stream stream, const ProductTile& tile, ProductCall call, int blocks) {
  const int64_t sum_bytes = ChunkSums<kFeatures>::bytes(tile, call.chunks);
  call.stages = num_stages(tile, call.chunks, sum_bytes);
  const Launch shape{static_cast<unsigned>(blocks), static_cast<unsigned>((1 + call.chunks) * kWarpgroupThreads),
                     shared_bytes_of(tile, call.stages, call.chunks, sum_bytes)};
  launch_early(side_by_side_kernel<kFeatures>, shape, stream, call);
}

__global__ void __launch_bounds__(kSumThreads)
    chunk_sum_kernel(const __grid_constant__ ProductCall call, const float* chunks) {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
  const int64_t count = static_cast<int64_t>(call.M) * call.N;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * 4;
  if (at >= count) return;
  Run<float, 4> total = *reinterpret_cast<const Run<float, 4>*>(chunks + at);
  for (int chunk = 1; chunk < call.chunks; ++chunk)
    add_chunk(total, *reinterpret_cast<const Run<float, 4>*>(chunks + chunk * count + at));
  store_four(call, at, total);
}

}  // namespace

void run_side_by_side_kernel(Stream stream, const ProductTile& tile, const ProductCall& call, int blocks) {
  switch (tile.features) {
    case 8:
      return run<8>(stream, tile, call, blocks);
    case 16:
      return run<16>(stream, tile, call, blocks);
    case 24:
      return run<24>(stream, tile, call, blocks);
    case 32:
      return run<32>(stream, tile, call, blocks);
    default:
      return run<40>(stream, tile, call, blocks);
  }
}

void run_chunk_sum_kernel(Stream stream, const ProductCall& call, const float* chunks) {
  const int64_t fours = static_cast<int64_t>(call.M) * call.N / 4;
  const Launch shape{static_cast<unsigned>(ceil_div<int64_t>(fours, kSumThreads)), kSumThreads};
  launch_early(chunk_sum_kernel, shape, stream, call, chunks);
}

}  // namespace wideseek::cuda
