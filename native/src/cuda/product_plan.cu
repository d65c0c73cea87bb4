// A model of what bounds a product on an H200: tensor cores, the way from L2 to shared memory, weights from memory.
#include "cuda/product_plan.h"

#include <algorithm>
#include <bit>

#include "cuda/platform.h"

namespace wideseek::cuda {
namespace {

// Of the order, so it must not change with the device.
constexpr int kMultiprocessors = 132;
constexpr double kEnoughFilled = 0.8;
constexpr int kLeastSlicesOfChunk = 4;

constexpr int kOneGroupFeatures[] = {32, 40, 48, 64, 96, 128, 152, 192, 256};
constexpr int kTwoGroupsFeatures[] = {64, 128, 192, 256};
// Two sets of sums take twice the registers.
constexpr int kInTurnFeatures[] = {64, 128, 192};
constexpr int kSideBySideFeatures[] = {8, 16, 24, 32, 40};
constexpr int kExpertFeatures[] = {64, 96, 128, 192}, kTwoGroupsExpertFeatures[] = {64, 128, 192};
constexpr int kGroupRows = 64;

int64_t num_slices(int64_t K) { return ceil_div<int64_t>(K, kSliceDepth); }

// Share of the multiprocessors that have work, over all rounds.
double filled(int64_t blocks) {
  return static_cast<double>(blocks) / static_cast<double>(ceil_div<int64_t>(blocks, kMultiprocessors)) /
         kMultiprocessors;
}

double best_filled(int64_t N, int chunks) {
  double best = 0;
  for (const int features : kOneGroupFeatures) best = std::max(best, filled(ceil_div<int64_t>(N, features) * chunks));
  return best;
}

// Clocks of a multiprocessor at 1.75 GHz. Nothing but speed depends on these figures.
constexpr double kBytesOfMemory = 2450;    // a clock, of all multiprocessors: 4.3 TB/s
constexpr double kBytesOfL2 = 5000;        // a clock, of all
constexpr double kBytesOfL2ForOne = 48;    // a clock, of one
constexpr double kLeastClocksOfStep = 32;  // of a wgmma that waits for the last one's sums
constexpr double kClocksOfLaunch = 2500, kClocksOfSecondLaunch = 3000, kClocksOfUnit = 600;
constexpr int64_t kBandOfModel = 8;  // row tiles that are computed together

struct Layer {
  int64_t N, K;
  int chunks;
};

int64_t scratch_bytes_of(const ProductTile& tile, const Layer& layer, int64_t M) {
  if (tile.schedule != ChunkSchedule::kOne || layer.chunks == 1) return 0;
  return layer.chunks * M * layer.N * static_cast<int64_t>(sizeof(float));
}

// Row tiles of all, and of those that multiply by the same weights.
struct RowTiles {
  int64_t all, of_layer;
};

double estimated_clocks(const ProductTile& tile, const Layer& layer, const RowTiles& row_tiles, int multiprocessors) {
  const auto [N, K, chunks] = layer;
  const int apart = tile.schedule == ChunkSchedule::kOne ? chunks : 1;
  const int beside = tile.schedule == ChunkSchedule::kSideBySide ? chunks : 1;
  const int64_t units = row_tiles.all * ceil_div<int64_t>(N, tile.features) * apart;
  const auto steps = static_cast<double>(ceil_div<int64_t>(num_slices(K), apart * beside));
  // A slice's four steps: their latency, multiplications, and operands from shared memory at 128 bytes a clock.
  const double features = tile.features, groups = tile.groups * beside;
  const double products = std::max({4 * kLeastClocksOfStep, 2 * features * groups, (kGroupRows + features) * groups});
  const double weight_bytes = 128.0 * tile.features * beside, bytes = weight_bytes + 128.0 * tile.loaded_rows * beside;
  // Row tiles that are computed together get the weights from memory once.
  const double from_memory = weight_bytes / static_cast<double>(std::min(row_tiles.of_layer, kBandOfModel));
  // A round of units on so many multiprocessors.
  const auto round = [&](int64_t active) {
    const auto share = static_cast<double>(active);
    const double arrival =
        std::max({bytes / kBytesOfL2ForOne, bytes * share / kBytesOfL2, from_memory * share / kBytesOfMemory});
    return steps * std::max(products, arrival) + kClocksOfUnit + 8.0 * tile.features * tile.groups;
  };
  double clocks = kClocksOfLaunch + static_cast<double>(units / multiprocessors) * round(multiprocessors);
  if (units % multiprocessors > 0) clocks += round(units % multiprocessors);
  return clocks;
}

double estimated_clocks(const ProductTile& tile, const Layer& layer, int64_t M, int multiprocessors) {
  const int64_t row_tiles = ceil_div<int64_t>(M, kGroupRows * tile.groups);
  const double clocks = estimated_clocks(tile, layer, RowTiles{row_tiles, row_tiles}, multiprocessors);
  const int64_t scratch_bytes = scratch_bytes_of(tile, layer, M);
  if (scratch_bytes == 0) return clocks;
  return clocks + kClocksOfSecondLaunch + 2.0 * static_cast<double>(scratch_bytes) / kBytesOfL2;
}

double estimated_clocks(const ProductTile& tile, const Layer& layer, const std::vector<int64_t>& rows,
                        int multiprocessors) {
  int64_t row_tiles = 0;
  for (const int64_t each : rows) row_tiles += ceil_div<int64_t>(each, kGroupRows * tile.groups);
  const auto layers = static_cast<int64_t>(rows.size());
  return estimated_clocks(tile, layer, RowTiles{row_tiles, ceil_div(row_tiles, layers)}, multiprocessors);
}

// Rows of x that a single group loads.
int rows_of_one_group(int64_t rows) {
  return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(rows, 8, kGroupRows))));
}

std::vector<ProductTile> possible_tiles(const Layer& layer, int64_t M, int64_t scratch_bytes) {
  const int needed = rows_of_one_group(M);
  std::vector<ProductTile> tiles;
  for (const int features : kOneGroupFeatures) tiles.push_back({ChunkSchedule::kOne, features, 1, needed});
  for (const int features : kTwoGroupsFeatures) tiles.push_back({ChunkSchedule::kOne, features, 2, 2 * kGroupRows});
  std::erase_if(tiles, [&](const ProductTile& tile) { return scratch_bytes_of(tile, layer, M) > scratch_bytes; });
  if (layer.chunks == 1) return tiles;
  for (const int features : kInTurnFeatures) tiles.push_back({ChunkSchedule::kInTurn, features, 2, 2 * kGroupRows});
  if (M > kGroupRows) return tiles;
  for (const int features : kSideBySideFeatures) tiles.push_back({ChunkSchedule::kSideBySide, features, 1, needed});
  return tiles;
}

template <typename Clocks>
ProductTile fastest(const std::vector<ProductTile>& tiles, Clocks&& clocks) {
  return *std::min_element(tiles.begin(), tiles.end(),
                           [&](const ProductTile& a, const ProductTile& b) { return clocks(a) < clocks(b); });
}

}  // namespace

bool products_take(int64_t N, int64_t K) { return N % 8 == 0 && K % 8 == 0 && N > 0 && K > 0; }

int num_chunks(int64_t N, int64_t K) {
  const auto most = static_cast<int>(std::clamp<int64_t>(num_slices(K) / kLeastSlicesOfChunk, 1, kMaxChunks));
  int best = 1;
  for (int chunks = 1; chunks <= most; ++chunks) {
    if (best_filled(N, chunks) >= kEnoughFilled) return chunks;
    if (best_filled(N, chunks) > best_filled(N, best)) best = chunks;
  }
  return best;
}

int64_t scratch_bytes_of(const ProductTile& tile, const ProductSize& size) {
  return scratch_bytes_of(tile, {size.N, size.K, num_chunks(size.N, size.K)}, size.M);
}

std::vector<ProductTile> possible_tiles(const ProductSize& size, int64_t scratch_bytes) {
  return possible_tiles({size.N, size.K, num_chunks(size.N, size.K)}, size.M, scratch_bytes);
}

ProductTile choose_tile(const ProductSize& size, int64_t scratch_bytes, int multiprocessors) {
  const Layer layer{size.N, size.K, num_chunks(size.N, size.K)};
  return fastest(possible_tiles(layer, size.M, scratch_bytes),
                 [&](const ProductTile& tile) { return estimated_clocks(tile, layer, size.M, multiprocessors); });
}

std::vector<ProductTile> possible_expert_tiles(const std::vector<int64_t>& rows) {
  const int needed = rows_of_one_group(*std::max_element(rows.begin(), rows.end()));
  std::vector<ProductTile> tiles;
  for (const int features : kExpertFeatures) tiles.push_back({ChunkSchedule::kInTurn, features, 1, needed});
  for (const int features : kTwoGroupsExpertFeatures)
    tiles.push_back({ChunkSchedule::kInTurn, features, 2, 2 * kGroupRows});
  return tiles;
}

ProductTile choose_expert_tile(const std::vector<int64_t>& rows, int64_t N, int64_t K, int multiprocessors) {
  const Layer layer{N, K, num_chunks(N, K)};
  return fastest(possible_expert_tiles(rows),
                 [&](const ProductTile& tile) { return estimated_clocks(tile, layer, rows, multiprocessors); });
}

}  // namespace wideseek::cuda
