// The gradient of the table without atomics: rows are grouped by token with a stable sort, the grouped rows are cut
// into windows of 32, and a warp sums a window's rows in order, 256 columns at a time, so that a frequent token is the
// work of many warps. Where a token's rows lie in several windows, their sums are added in order by a third kernel.
#include "cuda/embedding.h"

#include <algorithm>

#include "cuda/row.h"
#include "cuda/rows.h"

namespace wideseek::cuda {
namespace {

constexpr int kWarp = 32;

// ---- grouping. Each block sorts the rows of one bucket of tokens, those that are equal modulo a power of two, by the
// rest of the token, four bits at a time. The buckets' sizes are in the token ids, which every block reads whole.

constexpr int kSortThreads = 512;
constexpr int kDigitBits = 4;
constexpr int kDigits = 1 << kDigitBits;
constexpr int64_t kMaxBuckets = 128;  // about the multiprocessors of a GPU
constexpr int64_t kBucketRows = 256;  // on average, at least

struct Grouped {
  int32_t* rows;    // [T] rows of equal token are neighbours, in ascending order
  int32_t* tokens;  // [T] of those rows
  int32_t* spare;   // [T]
};

struct Scan {
  int before, total;  // over the threads of the block: of those with a smaller index, and of all
};

__device__ __forceinline__ Scan block_scan(int value) {
  __shared__ int totals[kSortThreads / kWarp];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  int sum = value;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int other = __shfl_sync(kWholeWarp, sum, (lane - distance) & (kWarp - 1));
    if (lane >= distance) sum += other;
  }
  __syncthreads();  // the readers of the last call are done
  if (lane == kWarp - 1) totals[warp] = sum;
  __syncthreads();
  Scan scan = {sum - value, 0};
  for (int w = 0; w < kSortThreads / kWarp; ++w) {
    if (w < warp) scan.before += totals[w];
    scan.total += totals[w];
  }
  return scan;
}

// A thread's share of n: consecutive, so that the order of the threads is the order of the elements.
struct Range {
  int begin, end;
};
__device__ __forceinline__ Range share_of(int n) {
  const int size = (n + kSortThreads - 1) / kSortThreads;
  const int begin = std::min(n, static_cast<int>(threadIdx.x) * size);
  return {begin, std::min(n, begin + size)};
}

// to [n] = from [n] in ascending order of a digit of their tokens; equal digits keep their order.
__device__ void sort_by_digit(int32_t* to, const int32_t* from, int n, const int32_t* token_ids, int shift) {
  // Of digit d and thread t at d * kSortThreads + t; every sixteenth is skipped, against bank conflicts of the scan.
  __shared__ int counts[kDigits * kSortThreads / 16 * 17];
  const auto slot = [](int i) { return i + i / 16; };
  const auto count_of = [&](int32_t row) -> int& {
    const int digit = token_ids[row] >> shift & (kDigits - 1);
    return counts[slot(digit * kSortThreads + static_cast<int>(threadIdx.x))];
  };
  for (int d = 0; d < kDigits; ++d) counts[slot(d * kSortThreads + static_cast<int>(threadIdx.x))] = 0;
  const Range mine = share_of(n);
  for (int i = mine.begin; i < mine.end; ++i) ++count_of(from[i]);
  __syncthreads();
  const int first = static_cast<int>(threadIdx.x) * kDigits;
  int sum = 0;
  for (int i = 0; i < kDigits; ++i) sum += counts[slot(first + i)];
  int before = block_scan(sum).before;
  for (int i = 0; i < kDigits; ++i) {
    const int count = counts[slot(first + i)];
    counts[slot(first + i)] = before;
    before += count;
  }
  __syncthreads();
  for (int i = mine.begin; i < mine.end; ++i) to[count_of(from[i])++] = from[i];
  __syncthreads();
}

__global__ void __launch_bounds__(kSortThreads)
    group_kernel(Grouped grouped, const int32_t* __restrict__ token_ids, int T, int bucket_bits) {
  const int bucket = static_cast<int>(blockIdx.x);
  const int mask = (1 << bucket_bits) - 1;
  const Range share = share_of(T);
  int smaller = 0, mine = 0, keys = 0;
  for (int t = share.begin; t < share.end; ++t) {
    const int token = token_ids[t];
    smaller += (token & mask) < bucket;
    mine += (token & mask) == bucket;
    keys |= (token & mask) == bucket ? token : 0;
  }
  const int first = block_scan(smaller).total;
  const Scan place = block_scan(mine);
  const int n = place.total;
  int32_t* from = grouped.rows + first;
  int32_t* to = grouped.spare + first;
  int at = place.before;
  for (int t = share.begin; t < share.end; ++t) {
    if ((token_ids[t] & mask) == bucket) from[at++] = t;
  }
  for (int shift = bucket_bits; shift < 31; shift += kDigitBits) {
    if (block_scan(keys >> shift != 0).total == 0) break;  // no token has higher bits. A barrier too: `from` is written
    sort_by_digit(to, from, n, token_ids, shift);
    int32_t* const sorted = to;
    to = from;
    from = sorted;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += kSortThreads) {
    const int32_t row = from[i];
    grouped.rows[first + i] = row;
    grouped.tokens[first + i] = token_ids[row];
  }
}

// ---- sums

constexpr int kWindow = kWarp;  // rows of a warp, one for each lane to look up
constexpr int kSumThreads = 128;
constexpr int kColumns = kWarp * kPack;  // of a warp
constexpr int kUnroll = 4;               // rows in flight

// The windows of the rows, and which tokens reach over their borders.
struct Windows {
  const int32_t *rows, *tokens;
  int64_t T, C;
  // [windows, 2, C]: the sum of the rows whose token came before the window; of those whose token goes on behind it,
  // begun in the window, with the table's value.
  float* partial;

  __device__ int64_t count() const { return ceil_div<int64_t>(T, kWindow); }
  __device__ bool continues(int64_t window) const {
    const int64_t at = window * kWindow;
    return at > 0 && at < T && tokens[at - 1] == tokens[at];
  }
  __device__ float* from_before(int64_t window) const { return partial + window * 2 * C; }
  __device__ float* into_next(int64_t window) const { return partial + (window * 2 + 1) * C; }
};

// The window and the first column of a thread of a warp; false if there is none.
struct Place {
  int64_t window, column;
};
__device__ __forceinline__ bool find_place(const Windows& windows, Place& place) {
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) / kWarp;
  const int64_t runs = ceil_div<int64_t>(windows.C, kColumns);
  place = {warp / runs, warp % runs * kColumns + threadIdx.x % kWarp * kPack};
  return place.window < windows.count();
}

__device__ __forceinline__ void add(Pack& total, const Pack& values) {
  WS_UNROLL
  for (int k = 0; k < kPack; ++k) total.v[k] += values.v[k];
}

template <typename Table, typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_windows_kernel(Table* __restrict__ dtable, const T* __restrict__ dout, Windows windows) {
  Place place;
  if (!find_place(windows, place)) return;
  const int64_t C = windows.C, i = place.column, first = place.window * kWindow;
  const int lane = threadIdx.x % kWarp;
  const int rows = static_cast<int>(std::min<int64_t>(kWindow, windows.T - first));
  const int64_t own = first + std::min(lane, rows - 1);
  const int32_t row = windows.rows[own], token = windows.tokens[own];
  const bool continues = windows.continues(place.window), goes_on = windows.continues(place.window + 1);
  // The row is the first of its token. Not of a row that continues the window before.
  const bool own_begins = lane == 0 ? !continues : windows.tokens[own - (own > 0)] != token;
  bool begun = false;  // the token of `total` begins in this window
  Pack total{};
  for (int base = 0; base < rows; base += kUnroll) {
    RawPack<T> held[kUnroll];
    RawPack<Table> table[kUnroll];
    int32_t tokens[kUnroll];
    bool begins[kUnroll];
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int at = std::min(base + u, rows - 1);
      tokens[u] = __shfl_sync(kWholeWarp, token, at);
      begins[u] = __shfl_sync(kWholeWarp, static_cast<int>(own_begins), at) != 0;
      const int64_t from = __shfl_sync(kWholeWarp, row, at);
      held[u] = load_raw(dout + from * C, i, base + u < rows ? C : 0);
      table[u] = load_raw(dtable + tokens[u] * C, i, begins[u] && base + u < rows ? C : 0);
    }
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int at = base + u;
      const bool next_begins = __shfl_sync(kWholeWarp, static_cast<int>(own_begins), std::min(at + 1, rows - 1)) != 0;
      if (at >= rows) break;
      if (begins[u]) {
        total = widen(table[u]);
        begun = true;
      }
      add(total, widen(held[u]));
      if (at + 1 < rows ? !next_begins : goes_on) {
        if (at + 1 == rows) {
          store_pack(begun ? windows.into_next(place.window) : windows.from_before(place.window), i, C, total);
        }
      } else if (begun) {
        store_pack(dtable + tokens[u] * C, i, C, total);
      } else {
        store_pack(windows.from_before(place.window), i, C, total);
      }
    }
  }
}

// dtable = the sums of a token that begins in one window and goes on in others.
template <typename Table>
__global__ void __launch_bounds__(kSumThreads) join_windows_kernel(Table* __restrict__ dtable, Windows windows) {
  Place place;
  if (!find_place(windows, place)) return;
  const int64_t window = place.window, C = windows.C;
  if (!windows.continues(window + 1)) return;
  const int32_t token = windows.tokens[window * kWindow + kWindow - 1];
  if (windows.tokens[window * kWindow] == token && windows.continues(window)) return;  // it began earlier
  Pack total = load_pack(windows.into_next(window), place.column, C);
  bool more = true;
  for (int64_t first = window + 1; more; first += kUnroll) {
    bool has[kUnroll];
    Pack sums[kUnroll];
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      // All rows of the token are neighbours.
      has[u] = (first + u) * kWindow < windows.T && windows.tokens[(first + u) * kWindow] == token;
      sums[u] = load_pack(windows.from_before(first + u), place.column, has[u] ? C : 0);
    }
    WS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      if (has[u]) add(total, sums[u]);
      more = has[u];
    }
  }
  store_pack(dtable + token * C, place.column, C, total);
}

int64_t index_floats(int64_t T) { return ceil_div<int64_t>(3 * T, 16) * 16; }

}  // namespace

void embedding_forward(Stream stream, TypedPointer out, ConstTypedPointer table, const int32_t* token_ids, int64_t T,
                       int64_t C) {
  gather_rows(stream, out, table, token_ids, T, C);
}

int64_t embedding_backward_scratch(int64_t T, int64_t C) {
  static_assert(sizeof(int32_t) == sizeof(float));
  return index_floats(T) + ceil_div<int64_t>(T, kWindow) * 2 * C;
}

void embedding_backward(Stream stream, TypedPointer dtable, ConstTypedPointer dout, const int32_t* token_ids, int64_t T,
                        int64_t C, float* scratch) {
  if (T == 0) return;
  auto* index = reinterpret_cast<int32_t*>(scratch);
  const Grouped grouped = {index, index + T, index + 2 * T};
  int bucket_bits = 0;
  while (int64_t{2} << bucket_bits <= std::min(kMaxBuckets, T / kBucketRows)) ++bucket_bits;
  launch(group_kernel, {1u << bucket_bits, kSortThreads}, stream, grouped, token_ids, static_cast<int>(T), bucket_bits);

  const Windows windows = {grouped.rows, grouped.tokens, T, C, scratch + index_floats(T)};
  const int64_t warps = ceil_div<int64_t>(T, kWindow) * ceil_div<int64_t>(C, kColumns);
  const Launch where = {static_cast<unsigned>(ceil_div<int64_t>(warps, kSumThreads / kWarp)), kSumThreads};
  with_element_type(dtable.dtype, [&](auto table_type) {
    with_element_type(dout.dtype, [&](auto type) {
      using Table = decltype(table_type);
      using E = decltype(type);
      launch(sum_windows_kernel<Table, E>, where, stream, static_cast<Table*>(dtable.data),
             static_cast<const E*>(dout.data), windows);
    });
    if (T > kWindow) {
      using Table = decltype(table_type);
      launch(join_windows_kernel<Table>, where, stream, static_cast<Table*>(dtable.data), windows);
    }
  });
}

}  // namespace wideseek::cuda
