// The kernels of linear layers' forward products, by tile (product_plan.h).
#pragma once

#include "cuda/product_tile.h"

namespace wideseek::cuda {

// Tiles whose block computes one chunk, or all of them in turn. `blocks`: to which the units go in turn.
void run_tile_kernel(Stream stream, const ProductTile& tile, const ProductCall& call, int blocks);
// Tiles whose block computes all chunks side by side.
void run_side_by_side_kernel(Stream stream, const ProductTile& tile, const ProductCall& call, int blocks);
// call.out [M,N] = the sums of call.chunks chunks from `chunks` [chunks][M][N], and what call adds.
void run_chunk_sum_kernel(Stream stream, const ProductCall& call, const float* chunks);

// Of a launch: their maps are parameters of the kernel, of which CUDA before 12.1 takes 4 KB.
#if defined(CUDART_VERSION) && CUDART_VERSION < 12010
constexpr int kMaxExperts = 16;
#else
constexpr int kMaxExperts = 128;
#endif
// Layers of one shape and their rows; none is without rows.
struct ExpertCall {
  ProductCall call;  // its own weights are not read
  int count;
  int first_rows[kMaxExperts + 1], first_tiles[kMaxExperts + 1];
  TensorMap weights[kMaxExperts];
};
void run_expert_kernel(Stream stream, const ProductTile& tile, const ExpertCall& experts, int blocks);

// How many stages there is room for in each of `rings`, and the shared memory that they take with what lies behind
// them.
int num_stages(const ProductTile& tile, int rings, int64_t other_bytes);
int64_t shared_bytes_of(const ProductTile& tile, int stages, int rings, int64_t other_bytes);

}  // namespace wideseek::cuda
