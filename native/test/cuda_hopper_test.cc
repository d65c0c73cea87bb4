// The instructions of compute capability 9.0 under emulation: products of a warpgroup against plain loops over operands
// laid out byte by byte, copies that a barrier reports, and that what a GPU would answer with wrong numbers is refused.
#include <cstring>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "check.h"
#include "cuda/hopper.h"

namespace {

using namespace wideseek;
using namespace wideseek::cuda;
using emulation::ThreadOrder;

constexpr ThreadOrder kOrders[] = {ThreadOrder::kFirstToLast, ThreadOrder::kLastToFirst};

// Small integers, so that sums are exact.
float element(int stream, int row, int column) {
  return static_cast<float>((row * 31 + column * 17 + stream * 7 + row * column % 13) % 9 - 4);
}

// A tile of `rows` rows as the copy engine would lay it into shared memory with the 128-byte swizzle: written from the
// description in the PTX manual, not by operand_chunk.
void lay_out(std::vector<uint16_t>& tile, int stream, int rows, int D) {
  tile.assign(static_cast<size_t>(rows * D), 0);
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < D; ++column) {
      const int byte = row / 8 * (8 * D * 2) + column / 64 * 1024 + row % 8 * 128 + column % 64 * 2;
      const int swizzled = byte ^ (byte / 128 % 8 * 16);
      tile[static_cast<size_t>(swizzled / 2)] = float_to_bf16(element(stream, row, column));
    }
  }
}

struct Tiles {
  const uint16_t *a, *b;
  uint32_t a_bytes, b_bytes;
  float* out;
};

// Both tiles by bulk copies; A B^T.
template <int D, int kRows>
void rows_kernel(Tiles tiles) {
  const SharedAddress a = 0, b = tiles.a_bytes, barrier = b + tiles.b_bytes;
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    publish_mbarriers();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive_expecting(barrier, tiles.a_bytes + tiles.b_bytes);
    copy_bulk(a, tiles.a, tiles.a_bytes, barrier);
    copy_bulk(b, tiles.b, tiles.b_bytes, barrier);
  }
  wait_phase(barrier, 0);
  float sum[kRows / 8][4];
  fence_products(sum);
  issue_product_of_rows<D>(sum, a, b);
  commit_products();
  wait_products<0>(sum);
  const int row = warp_id() * 16 + lane_id() / 4;
  for (int n = 0; n < kRows / 8; ++n)
    for (int e = 0; e < 4; ++e) tiles.out[(row + e / 2 * 8) * kRows + n * 8 + lane_id() % 4 * 2 + e % 2] = sum[n][e];
}

// A [64, kRows] from registers, B [kRows, D]; A B plus 1.
template <int D, int kRows>
void columns_kernel(Tiles tiles, bool fences) {
  const int row = warp_id() * 16 + lane_id() / 4;
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(tiles.b_bytes / 4); i += kWarpgroupThreads) {
    uint32_t pair;
    std::memcpy(&pair, tiles.b + 2 * i, sizeof(pair));
    store_shared(static_cast<SharedAddress>(i * 4), pair);
  }
  if (fences) fence_async_proxy();
  __syncthreads();
  float sum[D / 8][4], weights[kRows / 8][4];
  for (int n = 0; n < D / 8; ++n)
    for (int e = 0; e < 4; ++e) sum[n][e] = 1;
  for (int n = 0; n < kRows / 8; ++n)
    for (int e = 0; e < 4; ++e) weights[n][e] = element(1, row + e / 2 * 8, n * 8 + lane_id() % 4 * 2 + e % 2);
  uint32_t operand[kRows / 16][4];
  pack_operand(operand, weights);
  fence_products(sum, operand);
  issue_product_of_columns<D>(sum, operand, 0);
  commit_products();
  wait_products<0>(sum, operand);
  for (int n = 0; n < D / 8; ++n)
    for (int e = 0; e < 4; ++e) tiles.out[(row + e / 2 * 8) * D + n * 8 + lane_id() % 4 * 2 + e % 2] = sum[n][e];
}

template <int D, int kRows>
void check_products() {
  std::vector<uint16_t> a, b;
  lay_out(a, 1, kProductRows, D);
  lay_out(b, 2, kRows, D);
  const auto bytes = [](const std::vector<uint16_t>& tile) { return static_cast<uint32_t>(tile.size() * 2); };
  for (const auto order : kOrders) {
    emulation::set_thread_order(order);
    std::vector<float> out(kProductRows * kRows);
    launch(rows_kernel<D, kRows>, {1, kWarpgroupThreads, bytes(a) + bytes(b) + 8}, {},
           Tiles{a.data(), b.data(), bytes(a), bytes(b), out.data()});
    for (int r = 0; r < kProductRows; ++r) {
      for (int n = 0; n < kRows; ++n) {
        float sum = 0;
        for (int k = 0; k < D; ++k) sum += element(1, r, k) * element(2, n, k);
        CHECK(out[static_cast<size_t>(r * kRows + n)] == sum);
      }
    }
    out.assign(kProductRows * D, 0);
    launch(columns_kernel<D, kRows>, {1, kWarpgroupThreads, bytes(b)}, {},
           Tiles{nullptr, b.data(), 0, bytes(b), out.data()}, true);
    for (int r = 0; r < kProductRows; ++r) {
      for (int n = 0; n < D; ++n) {
        float sum = 1;
        for (int k = 0; k < kRows; ++k) sum += element(1, r, k) * element(2, k, n);
        CHECK(out[static_cast<size_t>(r * D + n)] == sum);
      }
    }
  }
}

EMULATION_TEST(cuda_hopper_products_equal_plain_sums) {
  check_products<64, 64>();
  check_products<64, 128>();
  check_products<128, 64>();
  check_products<128, 128>();
}

EMULATION_TEST(cuda_hopper_products_see_no_unfenced_store) {
  std::vector<uint16_t> b;
  lay_out(b, 2, 64, 64);
  std::vector<float> out(kProductRows * 64);
  CHECK_THROWS(launch(columns_kernel<64, 64>, {1, kWarpgroupThreads, static_cast<int64_t>(b.size() * 2)}, {},
                      Tiles{nullptr, b.data(), 0, static_cast<uint32_t>(b.size() * 2), out.data()}, false));
}

EMULATION_TEST(cuda_hopper_operand_chunks_are_those_of_the_swizzle) {
  std::vector<uint16_t> tile;
  lay_out(tile, 3, 24, 128);
  for (int row = 0; row < 24; ++row) {
    for (int chunk = 0; chunk < 16; ++chunk) {
      const int at = operand_chunk<128>(row, chunk);
      CHECK(operand_row<128>(at) == row);
      CHECK(bf16_to_float(tile[static_cast<size_t>(at * 8 + 3)]) == element(3, row, chunk * 8 + 3));
    }
  }
}

// ---- a ring of two stages between a warp that copies and another that sums

constexpr int kSteps = 7;
constexpr uint32_t kStageBytes = 256;

struct Ring {
  const float* values;
  float* sums;
  bool waits_for_room;
};

void ring_kernel(Ring ring) {
  const SharedAddress full = 2 * kStageBytes, empty = full + 16;
  if (threadIdx.x == 0) {
    for (uint32_t stage = 0; stage < 2; ++stage) {
      init_mbarrier(full + stage * 8, 1);
      init_mbarrier(empty + stage * 8, 32);
    }
    publish_mbarriers();
  }
  __syncthreads();
  if (warp_id() == 0) {
    for (int step = 0; lane_id() == 0 && step < kSteps; ++step) {
      const auto stage = static_cast<uint32_t>(step % 2);
      if (ring.waits_for_room) wait_phase(empty + stage * 8, step / 2 - 1);
      arrive_expecting(full + stage * 8, kStageBytes);
      copy_bulk(stage * kStageBytes, ring.values + step * 64, kStageBytes / 2, full + stage * 8);
      copy_bulk(stage * kStageBytes + kStageBytes / 2, ring.values + step * 64 + 32, kStageBytes / 2, full + stage * 8);
    }
    return;
  }
  float sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    const auto stage = static_cast<uint32_t>(step % 2);
    wait_phase(full + stage * 8, step / 2);
    for (uint32_t half = 0; half < 2; ++half) {
      float value;
      std::memcpy(&value, shared_pointer(stage * kStageBytes + half * 128 + static_cast<uint32_t>(lane_id()) * 4), 4);
      sum += value;
    }
    arrive(empty + stage * 8);
  }
  ring.sums[lane_id()] = sum;
}

EMULATION_TEST(cuda_hopper_copies_go_round_a_ring) {
  std::vector<float> values(kSteps * 64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  for (const auto order : kOrders) {
    emulation::set_thread_order(order);
    std::vector<float> sums(32);
    launch(ring_kernel, {1, 64, 2 * kStageBytes + 32}, {}, Ring{values.data(), sums.data(), true});
    for (int lane = 0; lane < 32; ++lane) {
      float sum = 0;
      for (int step = 0; step < kSteps; ++step)
        sum += values[static_cast<size_t>(step * 64 + lane)] + values[static_cast<size_t>(step * 64 + 32 + lane)];
      CHECK(sums[static_cast<size_t>(lane)] == sum);
    }
    CHECK_THROWS(launch(ring_kernel, {1, 64, 2 * kStageBytes + 32}, {}, Ring{values.data(), sums.data(), false}));
  }
}

}  // namespace

namespace {

// Copies a box to byte 1024 of shared memory and shows it, swizzle and all.
void box_kernel(TensorMap map, int column, int row, int to, uint32_t bytes, std::byte* out) {
  const auto barrier = static_cast<SharedAddress>(1024 + bytes);
  if (threadIdx.x == 0) {
    init_mbarrier(barrier, 1);
    publish_mbarriers();
    arrive_expecting(barrier, bytes);
    copy_box(static_cast<SharedAddress>(to), map, column, row, barrier);
    wait_phase(barrier, 0);
    std::memcpy(out, shared_pointer(1024), bytes);
  }
}

}  // namespace

EMULATION_TEST(cuda_hopper_boxes_are_swizzled_and_end_in_zeros) {
  constexpr int64_t kRows = 21, kColumns = 104;
  alignas(16) static uint16_t matrix[kRows * kColumns];
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column)
      matrix[row * kColumns + column] = float_to_bf16(static_cast<float>(row * kColumns + column % 97 + 1));
  }
  constexpr int kBoxRows = 16;
  constexpr uint32_t kBytes = kBoxRows * 128;
  const auto copy = [&](const TensorMap& map, int column, int row, int to) {
    std::vector<std::byte> out(kBytes);
    launch(box_kernel, {1, 32, 1024 + kBytes + 8}, {}, map, column, row, to, kBytes, out.data());
    return out;
  };
  for (const ThreadOrder order : kOrders) {
    emulation::set_thread_order(order);
    for (const auto& [row, column] : {std::pair{0, 0}, {8, 64}, {3, 64}, {21, 0}, {0, 128}}) {
      const std::vector<std::byte> box = copy(make_tensor_map(matrix, kRows, kColumns, kBoxRows), column, row, 1024);
      for (int i = 0; i < kBoxRows * 64; ++i) {
        const int r = row + i / 64, c = column + i % 64, byte = i / 64 * 128 + i % 64 * 2;
        uint16_t got;
        std::memcpy(&got, box.data() + (byte ^ (byte / 128 % 8 * 16)), sizeof(got));
        CHECK(got == (r < kRows && c < kColumns ? matrix[r * kColumns + c] : 0));
      }
    }
  }
  emulation::set_thread_order(ThreadOrder::kFirstToLast);
  CHECK_THROWS(copy(make_tensor_map(matrix, kRows, kColumns, kBoxRows), 0, 0, 512));
  CHECK_THROWS(copy(make_tensor_map(matrix + 1, kRows, kColumns, kBoxRows), 0, 0, 1024));
  CHECK_THROWS(copy(make_tensor_map(matrix, kRows, kColumns - 2, kBoxRows), 0, 0, 1024));
  // More than the barrier was told of: it never opens.
  CHECK_THROWS(copy(make_tensor_map(matrix, kRows, kColumns, kBoxRows / 2), 0, 0, 1024));
}
