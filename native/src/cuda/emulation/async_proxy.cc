#include "cuda/emulation/async_proxy.h"

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "cuda/emulation/emulation.h"

namespace wideseek::emulation {
namespace {

constexpr int kWarp = 32, kWarps = 32, kWarpgroup = 4 * kWarp, kRows = 16, kDepth = 16, kMaxColumns = 256;
constexpr int kChunk = 16;  // bytes of shared memory whose last writer is known
constexpr int kBoxRowBytes = 128, kSwizzleBytes = 8 * kBoxRowBytes;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kInternal, "emulation", what); }

struct BulkCopy {
  uint32_t to;
  int bytes;
  std::function<void(std::byte*)> fill;  // reads what is copied
};

struct MBarrier {
  int arrivals = 0, pending = 0;
  int64_t bytes = 0;  // that the phase still waits for
  int64_t phase = 0;  // completed ones
  std::vector<BulkCopy> copies;
};

struct IssuedProduct {
  WarpgroupProduct product;
  int64_t group = 0;
  int lanes = 0;
  float* sums[kWarp] = {};
  uint32_t a[kWarp][4] = {};
};

struct Warp {
  std::vector<IssuedProduct> products;  // from number `first` on
  int64_t first = 0;
  int64_t issued[kWarp] = {}, groups[kWarp] = {};
  bool is_fenced[kWarp] = {};
};

// The last ordinary store to a chunk: by which thread, and how many fences that thread had passed.
struct Store {
  int thread = -1;
  int64_t fences = 0;
};

struct State {
  int64_t block = -1;
  std::map<uint32_t, MBarrier> barriers;
  Warp warps[kWarps];
  std::vector<WarpgroupProduct> products[kWarps / 4];  // all of a warpgroup, in order
  std::vector<Store> stores;
  int64_t fences[kWarps * kWarp] = {};
};

// Of the running block.
State& state() {
  static State all;
  if (all.block != block_number()) {
    all = State{};
    all.block = block_number();
    all.stores.resize(static_cast<size_t>(dynamic_shared_bytes() / kChunk + 1));
  }
  return all;
}

const std::byte* readable(uint32_t address, int bytes) {
  if (static_cast<int64_t>(address) + bytes > dynamic_shared_bytes()) refuse("shared memory ends before what is read");
  const Store& store = state().stores[address / kChunk];
  if (store.thread >= 0 && store.fences == state().fences[store.thread])
    refuse("thread " + std::to_string(store.thread) + " stored an operand at " + std::to_string(address) +
           " without a proxy fence");
  return dynamic_shared() + address;
}

MBarrier& barrier_at(uint32_t address) {
  const auto found = state().barriers.find(address);
  if (found == state().barriers.end()) refuse("no mbarrier at " + std::to_string(address));
  return found->second;
}

void end_phase_if_complete(MBarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.arrivals;
  ++barrier.phase;
}

void land(const BulkCopy& copy) {
  copy.fill(dynamic_shared() + copy.to);
  for (int i = 0; i < copy.bytes; i += kChunk) state().stores[(copy.to + static_cast<uint32_t>(i)) / kChunk] = {};
}

// The last moment for bulk copies: all have arrived at the barrier and somebody waits for it.
void land_all(MBarrier& barrier) {
  int64_t bytes = 0;
  for (const BulkCopy& copy : barrier.copies) bytes += copy.bytes;
  if (barrier.pending > 0 || barrier.copies.empty() || bytes != barrier.bytes) return;
  for (const BulkCopy& copy : barrier.copies) land(copy);
  barrier.copies.clear();
  barrier.bytes = 0;
  end_phase_if_complete(barrier);
}

// At once, or as late as can be.
void issue_copy(BulkCopy copy, uint32_t barrier) {
  if (static_cast<int64_t>(copy.to) + copy.bytes > dynamic_shared_bytes())
    refuse("shared memory ends before the bulk copy");
  MBarrier& own = barrier_at(barrier);
  if (current_thread_order() == ThreadOrder::kFirstToLast) {
    own.copies.push_back(std::move(copy));
    return;
  }
  land(copy);
  own.bytes -= copy.bytes;
  end_phase_if_complete(own);
}

// ---- operands by descriptor, with the 128-byte swizzle: address bits 7-9 are added to bits 4-6

struct Descriptor {
  uint32_t start, leading, stride;
  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4) {
    if (bits >> 49 != uint64_t{1} << 13) refuse("a descriptor other than of 128-byte swizzle without base offset");
  }
};

float element_at(uint32_t address) {
  address ^= (address >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, readable(address, 2), sizeof(bits));
  return bf16_to_float(bits);
}

float element_of(const Descriptor& operand, bool is_transposed, int row, int k) {
  const auto r = static_cast<uint32_t>(row), d = static_cast<uint32_t>(k);
  if (is_transposed)
    return element_at(operand.start + r / 64 * operand.leading + d / 8 * operand.stride + d % 8 * 128 + r % 64 * 2);
  return element_at(operand.start + r / 8 * operand.stride + r % 8 * 128 + d * 2);
}

// One warp's 16 rows.
void compute(const IssuedProduct& issued, int warp) {
  static float a[kRows][kDepth], b[kDepth][kMaxColumns], sum[kRows][kMaxColumns];
  const WarpgroupProduct& product = issued.product;
  if (issued.lanes != kWarp) refuse("a product that not all lanes of a warp issued");
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < kDepth; ++k) {
      if (product.has_a_registers) {
        const uint32_t pair = issued.a[r % 8 * 4 + k % 8 / 2][r / 8 + k / 8 * 2];
        a[r][k] = bf16_to_float(static_cast<uint16_t>(k % 2 == 0 ? pair : pair >> 16));
      } else {
        a[r][k] = element_of(Descriptor(product.a), false, warp % 4 * kRows + r, k);
      }
    }
  }
  const Descriptor columns(product.b);
  for (int k = 0; k < kDepth; ++k)
    for (int n = 0; n < product.columns; ++n) b[k][n] = element_of(columns, product.is_b_transposed, n, k);
  const auto place = [&](int r, int n) -> float& {
    return issued.sums[r % 8 * 4 + n % 8 / 2][n / 8 * 4 + r / 8 * 2 + n % 2];
  };
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < product.columns; ++n) sum[r][n] = product.adds ? place(r, n) : 0;
    for (int k = 0; k < kDepth; ++k)  // products of bf16 are exact
      for (int n = 0; n < product.columns; ++n) sum[r][n] += a[r][k] * b[k][n];
    for (int n = 0; n < product.columns; ++n) place(r, n) = sum[r][n];
  }
}

Warp& own_warp() { return state().warps[thread_number() / kWarp]; }

}  // namespace

void note_ordinary_store(const std::byte* to, int bytes) {
  const int64_t first = to - dynamic_shared();
  if (first < 0 || first + bytes > dynamic_shared_bytes()) return;  // static
  for (int64_t i = first / kChunk; i * kChunk < first + bytes; ++i)
    state().stores[static_cast<size_t>(i)] = {thread_number(), state().fences[thread_number()]};
}

void fence_async_proxy() { ++state().fences[thread_number()]; }

void init_mbarrier(uint32_t barrier, int arrivals) {
  if (barrier % 8 != 0) refuse("an mbarrier is 8 bytes, aligned");
  MBarrier& own = state().barriers[barrier];
  own = MBarrier{};
  own.arrivals = own.pending = arrivals;
}

void arrive_mbarrier(uint32_t barrier, int bytes) {
  MBarrier& own = barrier_at(barrier);
  if (own.pending == 0) land_all(own);
  if (own.pending == 0) refuse("more arrivals than the mbarrier counts");
  --own.pending;
  own.bytes += bytes;
  end_phase_if_complete(own);
}

void wait_mbarrier(uint32_t barrier, int parity) {
  MBarrier& own = barrier_at(barrier);
  wait_until([&own, parity] {
    land_all(own);
    return own.phase % 2 != parity;
  });
}

void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0)
    refuse("a bulk copy that is not of aligned 16-byte chunks");
  issue_copy({to, bytes, [=](std::byte* at) { std::memcpy(at, from, static_cast<size_t>(bytes)); }}, barrier);
}

void copy_matrix_box(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier) {
  if (to % kSwizzleBytes != 0) refuse("a swizzled box begins at a multiple of 1024 bytes");
  if (reinterpret_cast<uintptr_t>(map.matrix) % 16 != 0 || map.columns % 8 != 0)
    refuse("rows of a tensor map are aligned to 16 bytes");
  if (map.box_rows < 1 || map.box_rows > 256) refuse("a box has 1 to 256 rows");
  const auto fill = [map, column, row](std::byte* box) {
    for (int r = 0; r < map.box_rows; ++r) {
      for (int chunk = 0; chunk < kBoxRowBytes / kChunk; ++chunk) {
        std::byte* const at = box + r * kBoxRowBytes + ((chunk ^ r) & 7) * kChunk;
        const int64_t from_row = row + r, from_column = column + chunk * (kChunk / 2);
        if (from_row >= map.rows || from_column >= map.columns) {
          std::memset(at, 0, kChunk);
        } else {
          std::memcpy(at, map.matrix + (from_row * map.columns + from_column) * 2, kChunk);
        }
      }
    }
  };
  issue_copy({to, map.box_rows * kBoxRowBytes, fill}, barrier);
}

void fence_products() { own_warp().is_fenced[lane()] = true; }

void issue_product(const WarpgroupProduct& product, float* sum, const uint32_t* a_registers) {
  Warp& warp = own_warp();
  const int own = lane(), group = thread_number() / kWarpgroup;
  if (!warp.is_fenced[own]) refuse("a product without a wgmma fence after the last wait");
  const int64_t number = warp.issued[own]++;
  auto& all = state().products[group];
  if (number == static_cast<int64_t>(all.size())) all.push_back(product);
  if (all[static_cast<size_t>(number)] != product) refuse("threads of a warpgroup disagree about a product");
  const auto at = static_cast<size_t>(number - warp.first);
  if (at == warp.products.size()) warp.products.push_back({product, warp.groups[own], 0, {}, {}});
  IssuedProduct& issued = warp.products[at];
  ++issued.lanes;
  issued.sums[own] = sum;
  if (a_registers != nullptr) std::memcpy(issued.a[own], a_registers, sizeof(issued.a[own]));
}

void commit_products() { ++own_warp().groups[lane()]; }

void wait_products(int newest_groups_left) {
  warp_barrier();
  Warp& warp = own_warp();
  if (lane() == 0) {
    size_t done = 0;
    while (done < warp.products.size() && warp.products[done].group < warp.groups[0] - newest_groups_left)
      compute(warp.products[done++], thread_number() / kWarp);
    warp.products.erase(warp.products.begin(), warp.products.begin() + static_cast<int64_t>(done));
    warp.first += static_cast<int64_t>(done);
  }
  warp_barrier();
  warp.is_fenced[lane()] = false;
}

}  // namespace wideseek::emulation
