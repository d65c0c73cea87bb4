// In which order a linear layer's forward product out [M,N] = x [M,K] weight^T [N,K] is summed, and which of the
// kernels that keep this order computes it. Decided on the host, asking no device.
//
// The order of one element: K in slices of 64, the slices in as many chunks as the layer's shape asks for (num_chunks,
// whatever M). A chunk is one chain of wgmma steps of 16, ascending, from 0 on; the total is ((c0 + c1) + c2) + ... in
// fp32, then comes what is added, then one rounding. Every tile below computes an element so, from its row and its
// feature alone; hence its bits depend neither on M nor on the tile.
#pragma once

#include <cstdint>
#include <vector>

namespace wideseek::cuda {

constexpr int kSliceDepth = 64;
constexpr int kMaxChunks = 4;

// Whether the kernels take layers of this shape: rows of whole 16 bytes.
bool products_take(int64_t N, int64_t K);

// Chunks that K is summed in. More than one where the features alone are too few to occupy an H200 when one row is
// multiplied, which is bound by how fast weights come.
int num_chunks(int64_t N, int64_t K);

// How the chunks of an element come together.
enum class ChunkSchedule {
  kOne,        // a block computes one of them; if there are more, each goes to scratch and a second kernel adds them
  kInTurn,     // a warpgroup computes one after the other, with a second set of sums
  kSideBySide  // each has a warpgroup of the block
};

// What a block computes at a time.
struct ProductTile {
  ChunkSchedule schedule = ChunkSchedule::kOne;
  int features = 0;
  int groups = 1;       // of 64 rows of x
  int loaded_rows = 0;  // of x; below 64 the rest of the products' rows is whatever lies there
  bool operator==(const ProductTile&) const = default;
};

struct ProductSize {
  int64_t M, N, K;
};

// All tiles that can compute the product, with scratch of so many bytes.
std::vector<ProductTile> possible_tiles(const ProductSize& size, int64_t scratch_bytes);
// fp32 [chunks, M, N] of a tile that leaves its chunks in scratch, else 0.
int64_t scratch_bytes_of(const ProductTile& tile, const ProductSize& size);
// The one that should be the fastest.
ProductTile choose_tile(const ProductSize& size, int64_t scratch_bytes, int multiprocessors);

// Tiles of many layers of one shape, computed by one launch; rows[e] > 0 are those of layer e.
std::vector<ProductTile> possible_expert_tiles(const std::vector<int64_t>& rows);
ProductTile choose_expert_tile(const std::vector<int64_t>& rows, int64_t N, int64_t K, int multiprocessors);

}  // namespace wideseek::cuda
