// The kernels of forward products under emulation: every tile that can compute a product sums in the one order of its
// shape, held to the bit against plain loops.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "check.h"
#include "cuda/gemm.h"
#include "cuda/product.h"
#include "device.h"

namespace {

using namespace wideseek;
using cuda::ChunkSchedule;
using cuda::Product;
using cuda::ProductKind;
using cuda::ProductSize;
using cuda::ProductTile;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Aligned as device memory is.
template <typename T>
class Aligned {
 public:
  explicit Aligned(int64_t count) : memory_(static_cast<size_t>(count) * sizeof(T) + 64) {}
  T* get() {
    const auto first = reinterpret_cast<uintptr_t>(memory_.data());
    return reinterpret_cast<T*>((first + 63) & ~uintptr_t{63});
  }

 private:
  std::vector<std::byte> memory_;
};

std::vector<float> normals(uint64_t stream, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    values[i] = bf16_to_float(float_to_bf16(static_cast<float>(philox_normal(11, stream, i))));
  return values;
}

struct Array {
  Array(const std::vector<float>& values, DType type)
      : dtype(type), count(static_cast<int64_t>(values.size())), memory(count * 4 + 16) {
    convert_from_float(values.data(), memory.get(), type, count);
  }
  TypedPointer pointer() { return {memory.get(), dtype}; }
  std::vector<float> values() {
    std::vector<float> wide(static_cast<size_t>(count));
    convert_to_float(memory.get(), dtype, wide.data(), count);
    return wide;
  }
  DType dtype;
  int64_t count;
  Aligned<std::byte> memory;
};

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

struct Factors {
  std::vector<float> x, weights, add;
  explicit Factors(const ProductSize& size)
      : x(normals(1, size.M * size.K)), weights(normals(2, size.N * size.K)), add(normals(3, size.M * size.N)) {}
};

// The order of product_plan.h in plain words: chunks of slices of 64, each one chain from 0 on.
float expected(const Factors& factors, const ProductSize& size, int64_t row, int64_t feature, bool adds, DType out) {
  const int64_t slices = (size.K + 63) / 64, chunks = cuda::num_chunks(size.N, size.K);
  float total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    float sum = 0;
    const int64_t end = std::min(size.K, (chunk + 1) * slices / chunks * 64);
    for (int64_t k = chunk * slices / chunks * 64; k < end; ++k)
      sum += factors.x[row * size.K + k] * factors.weights[feature * size.K + k];
    total = chunk == 0 ? sum : total + sum;
  }
  if (adds) total += factors.add[row * size.N + feature];
  return out == DType::kBFloat16 ? bf16_to_float(float_to_bf16(total)) : total;
}

Aligned<std::byte>& scratch() {
  static Aligned<std::byte> memory(cuda::Gemm::kWorkspaceBytes);
  return memory;
}

enum class Added { kNothing, kOther, kOut };

// Rows [first, first + count) of the product alone, by `tile`.
std::vector<float> multiply(const Factors& factors, const ProductSize& size, DType out, Added added,
                            const ProductTile* tile) {
  Array x(factors.x, DType::kBFloat16), weights(factors.weights, DType::kBFloat16), add(factors.add, out);
  const auto blank = static_cast<size_t>(size.M * size.N);
  Array result(added == Added::kOut ? factors.add : std::vector<float>(blank, kNaN), out);
  std::fill_n(reinterpret_cast<uint8_t*>(scratch().get()), 4096, uint8_t{0xff});
  const ConstTypedPointer adds = added == Added::kNothing ? ConstTypedPointer()
                                 : added == Added::kOut   ? ConstTypedPointer(result.pointer())
                                                          : ConstTypedPointer(add.pointer());
  cuda::multiply_forward(
      {}, {ProductKind::kForward, result.pointer(), x.pointer(), weights.pointer(), adds, size.M, size.N, size.K},
      scratch().get(), tile);
  return result.values();
}

std::string text(const ProductTile& tile) {
  const char* const names[] = {"one chunk", "in turn", "side by side"};
  return std::string(names[static_cast<int>(tile.schedule)]) + ", " + std::to_string(tile.features) + " features, " +
         std::to_string(tile.groups) + " groups, " + std::to_string(tile.loaded_rows) + " rows";
}

void check_tile(const Factors& factors, const ProductSize& size, DType out, Added added, const ProductTile* tile,
                const std::vector<float>& want) {
  const std::vector<float> got = multiply(factors, size, out, added, tile);
  for (size_t i = 0; i < want.size(); ++i) {
    if (same_bits(got[i], want[i])) continue;
    return check::fail(__FILE__, __LINE__,
                       std::to_string(size.M) + " x " + std::to_string(size.N) + " x " + std::to_string(size.K) + ", " +
                           (tile == nullptr ? "chosen" : text(*tile)) + ": [" + std::to_string(i) + "] is " +
                           std::to_string(got[i]) + ", want " + std::to_string(want[i]));
  }
}

std::vector<float> all_expected(const Factors& factors, const ProductSize& size, DType out, Added added) {
  std::vector<float> want;
  for (int64_t row = 0; row < size.M; ++row) {
    for (int64_t feature = 0; feature < size.N; ++feature)
      want.push_back(expected(factors, size, row, feature, added != Added::kNothing, out));
  }
  return want;
}

// The first `count` tiles after number `first` of all, in either order of threads.
void check_all_tiles(const ProductSize& size) {
  const Factors factors(size);
  int number = static_cast<int>(size.M + size.N);  // dtype and addend change from tile to tile
  std::vector<float> want[2][2];
  for (const DType out : {DType::kBFloat16, DType::kFloat32}) {
    for (const Added added : {Added::kNothing, Added::kOut})
      want[out == DType::kFloat32][added == Added::kOut] = all_expected(factors, size, out, added);
  }
  for (const ProductTile& tile : cuda::possible_tiles(size, cuda::Gemm::kWorkspaceBytes)) {
    ++number;
    const DType out = number % 3 == 0 ? DType::kFloat32 : DType::kBFloat16;
    const Added added = number % 2 == 0 ? Added::kNothing : number % 5 == 0 ? Added::kOther : Added::kOut;
    emulation::set_thread_order(number % 4 < 2 ? emulation::ThreadOrder::kFirstToLast
                                               : emulation::ThreadOrder::kLastToFirst);
    check_tile(factors, size, out, added, &tile, want[out == DType::kFloat32][added != Added::kNothing]);
  }
  emulation::set_thread_order(emulation::ThreadOrder::kFirstToLast);
}

}  // namespace

TEST(cuda_product_chunks_are_of_the_shape) {
  struct Layer {
    int64_t N, K;
    int chunks;
  };
  // QKV, attention's output, gate and up, down, and the LM head of Qwen3-0.6B, 4B and 8B; experts of 30B-A3B.
  const Layer layers[] = {{4096, 1024, 1}, {1024, 2048, 4}, {6144, 1024, 1},  {1024, 3072, 4},  {151936, 1024, 1},
                          {6144, 2560, 1}, {2560, 4096, 2}, {19456, 2560, 1}, {2560, 9728, 2},  {151936, 2560, 1},
                          {6144, 4096, 1}, {4096, 4096, 1}, {24576, 4096, 1}, {4096, 12288, 1}, {151936, 4096, 1},
                          {5120, 2048, 1}, {2048, 4096, 2}, {1536, 2048, 3},  {2048, 768, 2},   {64, 64, 1},
                          {8, 8, 1},       {64, 512, 2}};
  for (const auto& [N, K, chunks] : layers) {
    CHECK(cuda::num_chunks(N, K) == chunks);
  }
  CHECK(cuda::products_take(8, 8) && !cuda::products_take(12, 8) && !cuda::products_take(8, 20));
}

TEST(cuda_product_tiles_that_are_chosen) {
  constexpr int64_t kScratch = cuda::Gemm::kWorkspaceBytes;
  const auto chosen = [](int64_t M, int64_t N, int64_t K) { return cuda::choose_tile({M, N, K}, kScratch, 132); };
  // One row: every multiprocessor has weights to read, once.
  CHECK((chosen(1, 19456, 2560) == ProductTile{ChunkSchedule::kOne, 152, 1, 8}));
  CHECK((chosen(1, 6144, 2560) == ProductTile{ChunkSchedule::kOne, 48, 1, 8}));
  CHECK(chosen(1, 2560, 9728).schedule == ChunkSchedule::kSideBySide);
  // Many: the largest tiles.
  CHECK((chosen(8192, 19456, 2560) == ProductTile{ChunkSchedule::kOne, 256, 2, 128}));
  CHECK((chosen(8192, 2560, 9728) == ProductTile{ChunkSchedule::kInTurn, 192, 2, 128}));
  for (int64_t M = 1; M <= 40000; M = M * 5 / 4 + 1) {
    for (const auto& [N, K] : {std::pair<int64_t, int64_t>{2560, 9728}, {1024, 2048}, {19456, 2560}, {8, 8}}) {
      const ProductTile tile = chosen(M, N, K);
      CHECK(cuda::scratch_bytes_of(tile, {M, N, K}) <= kScratch);
      CHECK(tile.loaded_rows >= std::min<int64_t>(M, 64 * tile.groups) && tile.loaded_rows % 8 == 0);
    }
  }
}

EMULATION_TEST(cuda_products_of_every_tile_have_the_bits_of_the_order) {
  for (const int64_t M : {1, 2, 7, 8, 9, 33, 64, 65, 130}) check_all_tiles({M, 56, 136});  // one chunk
  check_all_tiles({3, 264, 72});
  check_all_tiles({1200, 24, 8});  // more row tiles than a band
}

EMULATION_TEST(cuda_products_in_chunks_have_the_bits_of_the_order) {
  CHECK(cuda::num_chunks(56, 520) == 2 && cuda::num_chunks(56, 840) == 3 && cuda::num_chunks(56, 1096) == 4);
  for (const int64_t M : {1, 9, 70, 130}) check_all_tiles({M, 56, 520});
  check_all_tiles({5, 200, 840});
  for (const int64_t M : {1, 17, 65}) check_all_tiles({M, 40, 1096});
}

EMULATION_TEST(cuda_product_order_is_near_the_exact_sum) {
  const ProductSize size{3, 16, 1096};
  const Factors factors(size);
  for (int64_t i = 0; i < size.M * size.N; ++i) {
    double sum = factors.add[i];
    for (int64_t k = 0; k < size.K; ++k)
      sum += double{factors.x[i / size.N * size.K + k]} * factors.weights[i % size.N * size.K + k];
    CHECK_NEAR(expected(factors, size, i / size.N, i % size.N, true, DType::kFloat32), sum, 1e-3);
  }
}

EMULATION_TEST(cuda_product_rows_do_not_see_their_neighbours) {
  for (const int64_t K : {int64_t{136}, int64_t{520}}) {
    const ProductSize size{70, 40, K};
    const Factors factors(size);
    Factors poisoned = factors;
    for (int64_t row = 0; row < size.M; ++row) {
      if (row % 3 != 1) std::fill_n(poisoned.x.begin() + row * K, K, row % 3 == 0 ? kNaN : INFINITY);
    }
    for (const ProductTile& tile : cuda::possible_tiles(size, cuda::Gemm::kWorkspaceBytes)) {
      const std::vector<float> got = multiply(poisoned, size, DType::kBFloat16, Added::kOut, &tile);
      for (int64_t i = 0; i < size.M * size.N; ++i) {
        const int64_t row = i / size.N;
        if (row % 3 == 1)
          CHECK(same_bits(got[i], expected(factors, size, row, i % size.N, true, DType::kBFloat16)));
        else
          CHECK(!std::isfinite(got[i]));
      }
    }
  }
}

EMULATION_TEST(cuda_products_of_experts_have_the_bits_of_each_alone) {
  // Most have few rows, some none, one more than a tile; more of them than a launch takes.
  for (const int64_t K : {int64_t{136}, int64_t{840}}) {
    const int64_t N = K == 136 ? 8 : 40, count = K == 136 ? 200 : 9;
    std::vector<int64_t> first_rows{0}, rows;
    for (int64_t e = 0; e < count; ++e) {
      const int64_t own = e % 3 == 1 ? 0 : e == 6 ? 150 : 1 + e % 5;
      first_rows.push_back(first_rows.back() + own);
      if (own > 0) rows.push_back(own);
    }
    const int64_t R = first_rows.back();
    Array x(normals(1, R * K), DType::kBFloat16);
    std::vector<Array> layers;
    std::vector<const void*> pointers;
    std::vector<float> want;
    layers.reserve(static_cast<size_t>(count));
    for (int64_t e = 0; e < count; ++e) {
      const int64_t own = first_rows[e + 1] - first_rows[e];
      Factors factors({own, N, K});
      const std::vector<float> all = x.values();
      factors.x.assign(all.begin() + first_rows[e] * K, all.begin() + first_rows[e + 1] * K);
      factors.weights = normals(static_cast<uint64_t>(10 + e), N * K);
      layers.emplace_back(factors.weights, DType::kBFloat16);
      pointers.push_back(layers.back().memory.get());
      const std::vector<float> part = all_expected(factors, {own, N, K}, DType::kBFloat16, Added::kNothing);
      want.insert(want.end(), part.begin(), part.end());
    }
    for (const ProductTile& tile : cuda::possible_expert_tiles(rows)) {
      if (count > 128 && tile.features != 64) continue;  // tested with few of them
      Array out(std::vector<float>(static_cast<size_t>(R * N), kNaN), DType::kBFloat16);
      const auto [first, again] = device::twice([&] {
        cuda::multiply_experts_forward(
            {}, {out.pointer(), x.pointer(), pointers.data(), first_rows.data(), count, N, K}, &tile);
        return out.values();
      });
      CHECK(first == want && again == want);
    }
  }
}

namespace {

// Of Gemm with what the environment says.
std::vector<float> by_gemm(const Factors& factors, const ProductSize& size) {
  cuda::Gemm gemm(scratch().get());
  Array x(factors.x, DType::kBFloat16), weights(factors.weights, DType::kBFloat16);
  Array out(std::vector<float>(static_cast<size_t>(size.M * size.N), kNaN), DType::kFloat32);
  gemm.prepare(ProductKind::kForward, size.N, size.K, DType::kBFloat16, DType::kFloat32);
  gemm.multiply({}, {ProductKind::kForward, out.pointer(), x.pointer(), weights.pointer(), {}, size.M, size.N, size.K});
  return out.values();
}

}  // namespace

EMULATION_TEST(cuda_products_are_computed_by_whom_the_device_and_the_user_say) {
  const ProductSize size{5, 40, 520};
  const Factors factors(size);
  const std::vector<float> own = all_expected(factors, size, DType::kFloat32, Added::kNothing);
  CHECK(by_gemm(factors, size) == own);
  ::setenv("WIDESEEK_PRODUCTS", "cublaslt", 1);
  CHECK(by_gemm(factors, size) != own);
  ::setenv("WIDESEEK_PRODUCTS", "mma", 1);
  CHECK_THROWS(by_gemm(factors, size));
  ::unsetenv("WIDESEEK_PRODUCTS");
  emulation::set_compute_capability(8);
  CHECK(by_gemm(factors, size) != own);
  emulation::set_compute_capability(9);
}

EMULATION_TEST(cuda_products_refuse_arrays_that_are_not_aligned) {
  Array x(normals(1, 16), DType::kBFloat16), weights(normals(2, 64), DType::kBFloat16),
      out(normals(3, 8), DType::kFloat32);
  const auto multiply_from = [&](TypedPointer from) {
    cuda::multiply_forward({}, {ProductKind::kForward, out.pointer(), from, weights.pointer(), {}, 1, 8, 8},
                           scratch().get());
  };
  multiply_from(x.pointer() + 8);
  CHECK_THROWS(multiply_from(x.pointer() + 1));
}
