// CUDA attention over several spans of keys: against sums in double, and to the bit whether a thread block takes all
// spans of its rows or one, alone or with the rows of other sequences that have the span's blocks in common. With the
// kernels for compute capability 8 and those for 9.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "backend.h"
#include "base/rng.h"
#include "check.h"
#include "cuda/attention.h"
#include "cuda/attention_parts.h"
#include "cuda/emulation/emulation.h"

namespace {

using namespace wideseek;
using cuda::kSpanKeys;
using cuda::Splitting;
using emulation::ThreadOrder;

// bf16 normals, 64-byte aligned.
class Numbers {
 public:
  Numbers(int64_t count, uint64_t stream) : words_(static_cast<size_t>(count) + 32) {
    for (int64_t i = 0; i < count; ++i)
      data()[i] = float_to_bf16(static_cast<float>(philox_normal(7, stream, static_cast<uint64_t>(i))));
  }
  explicit Numbers(int64_t count) : words_(static_cast<size_t>(count) + 32, uint16_t{0x7fc0}) {}  // NaN
  uint16_t* data() {
    return reinterpret_cast<uint16_t*>((reinterpret_cast<uintptr_t>(words_.data()) + 63) & ~uintptr_t{63});
  }
  TypedPointer pointer() { return {data(), DType::kBFloat16}; }
  double at(int64_t i) { return bf16_to_float(data()[i]); }

 private:
  std::vector<uint16_t> words_;
};

// Sequences whose tokens are all in the cache, and the rows of them that are asked for.
struct Batch {
  AttentionShape shape;
  std::vector<std::vector<int32_t>> tables, rows;  // of a sequence: its blocks, the row of each of its tokens
  std::vector<SequenceSlice> stored, asked;
  int64_t num_rows = 0;
  int32_t num_blocks = 0;

  explicit Batch(const AttentionShape& shape_) : shape(shape_) { tables.reserve(64); }
  // Tokens [0, prefix) of an earlier sequence, whole blocks, then its own up to `length`. Asks for the last ones.
  void add(int64_t length, int64_t num_asked, int parent = -1, int64_t prefix = 0) {
    std::vector<int32_t> table, own;
    for (int64_t b = 0; b * 16 < length; ++b)
      table.push_back(b * 16 < prefix ? tables[static_cast<size_t>(parent)][static_cast<size_t>(b)] : num_blocks++);
    for (int64_t t = 0; t < length; ++t)
      own.push_back(t < prefix ? rows[static_cast<size_t>(parent)][static_cast<size_t>(t)]
                               : static_cast<int32_t>(num_rows + t - prefix));
    tables.push_back(table);
    rows.push_back(own);
    stored.push_back({num_rows, length - prefix, prefix, tables.back().data()});
    num_rows += length - prefix;
    asked.push_back({num_rows - num_asked, num_asked, length - num_asked, tables.back().data()});
  }
};

struct Result {
  std::vector<uint16_t> out;
  std::vector<float> lse;
  bool operator==(const Result& other) const {
    return out == other.out && std::memcmp(lse.data(), other.lse.data(), lse.size() * sizeof(float)) == 0 &&
           lse.size() == other.lse.size();
  }
};

// What a batch has in memory.
struct Memory {
  std::unique_ptr<Backend> backend = create_backend("cpu", 1);  // under emulation, device memory is the host's
  Numbers qkv, keys, values;

  explicit Memory(const Batch& batch)
      : qkv(batch.num_rows * batch.shape.qkv_size(), 1), keys(cache_size(batch)), values(cache_size(batch)) {
    store(batch);
  }
  // Keys and values of all rows into the cache.
  void store(const Batch& batch) {
    const auto plan =
        cuda::plan_attention(*backend, batch.shape, batch.stored.data(), static_cast<int64_t>(batch.stored.size()));
    cuda::kv_store({}, {keys.pointer(), values.pointer()}, qkv.pointer(), *plan);
  }
  static int64_t cache_size(const Batch& batch) {
    return int64_t{batch.num_blocks} * 16 * batch.shape.num_kv_heads * batch.shape.head_dim;
  }
};

// Of the rows that `asked` names, in order; the sequences are those of the batch.
Result run(const Batch& batch, Memory& memory, const std::vector<SequenceSlice>& asked, Splitting splitting) {
  const AttentionShape& shape = batch.shape;
  const int64_t width = shape.num_heads * shape.head_dim;
  Numbers out(batch.num_rows * width);
  std::vector<float> lse(static_cast<size_t>(batch.num_rows * shape.num_heads));
  const auto plan = cuda::plan_attention(*memory.backend, shape, asked.data(), static_cast<int64_t>(asked.size()), 0,
                                         nullptr, splitting);
  const int64_t floats = cuda::attention_forward_scratch(DType::kBFloat16, *plan);
  std::vector<float> scratch(static_cast<size_t>(floats), std::numeric_limits<float>::quiet_NaN());
  CHECK(splitting != Splitting::kNever || floats == 0);
  CHECK(floats <= cuda::attention_forward_scratch(DType::kBFloat16, shape, batch.num_rows, 64 * kSpanKeys));
  cuda::attention_forward({}, out.pointer(), lse.data(), memory.qkv.pointer(),
                          {memory.keys.pointer(), memory.values.pointer()}, *plan, scratch.data());
  Result result;
  for (const SequenceSlice& slice : asked) {
    const int64_t last = slice.first_row + slice.num_rows;
    result.out.insert(result.out.end(), out.data() + slice.first_row * width, out.data() + last * width);
    result.lse.insert(result.lse.end(), lse.begin() + slice.first_row * shape.num_heads,
                      lse.begin() + last * shape.num_heads);
  }
  return result;
}

// In double, one head after the other of the rows asked for.
void check_values(const Batch& batch, Numbers& qkv, const Result& result) {
  const int64_t H = batch.shape.num_heads, K = batch.shape.num_kv_heads, D = batch.shape.head_dim,
                width = batch.shape.qkv_size();
  size_t at = 0;
  for (size_t s = 0; s < batch.asked.size(); ++s) {
    for (int64_t i = 0; i < batch.asked[s].num_rows; ++i) {
      const int64_t position = batch.asked[s].first_position + i;
      for (int64_t h = 0; h < H; ++h, ++at) {
        const int64_t query = batch.rows[s][static_cast<size_t>(position)] * width + h * D;
        std::vector<double> out(static_cast<size_t>(D));
        double total = 0;
        for (int64_t j = 0; j <= position; ++j) {
          const int64_t key = batch.rows[s][static_cast<size_t>(j)] * width + (H + h / (H / K)) * D;
          double score = 0;
          for (int64_t d = 0; d < D; ++d) score += qkv.at(query + d) * qkv.at(key + d);
          const double weight = std::exp(score / std::sqrt(static_cast<double>(D)));
          total += weight;
          for (int64_t d = 0; d < D; ++d) out[static_cast<size_t>(d)] += weight * qkv.at(key + K * D + d);
        }
        CHECK_NEAR(result.lse[at], std::log(total), 1e-4);
        for (int64_t d = 0; d < D; ++d) {
          CHECK_NEAR(bf16_to_float(result.out[at * static_cast<size_t>(D) + static_cast<size_t>(d)]),
                     out[static_cast<size_t>(d)] / total, 4e-3);
        }
      }
    }
  }
}

// Four sequences that share one to three spans, three that do not, of which one is short.
Batch decode_batch(const AttentionShape& shape) {
  Batch batch(shape);
  batch.add(3 * kSpanKeys + 70, 1);
  batch.add(3 * kSpanKeys + 1, 1, 0, 3 * kSpanKeys);
  batch.add(2 * kSpanKeys + 300, 1, 0, kSpanKeys + 512);
  batch.add(kSpanKeys + 129, 1);
  batch.add(90, 1);
  batch.add(2 * kSpanKeys, 1);
  batch.add(3 * kSpanKeys + 20, 1, 1, 2 * kSpanKeys);
  return batch;
}

// Tiles that begin and end within spans and at their ends.
Batch tile_batch(const AttentionShape& shape) {
  Batch batch(shape);
  batch.add(kSpanKeys + 14, 20);
  batch.add(kSpanKeys, 3);
  batch.add(kSpanKeys + 9, 9, 1, kSpanKeys);
  return batch;
}

void check_batch(const Batch& batch) {
  Memory memory(batch);
  for (const int capability : {9, 8}) {
    // Kernels for 8 compute 128 rows for one, which takes long here.
    if (capability == 8 && batch.asked.size() > 4) continue;
    emulation::set_compute_capability(capability);
    emulation::set_thread_order(ThreadOrder::kFirstToLast);
    const Result whole = run(batch, memory, batch.asked, Splitting::kNever);
    check_values(batch, memory.qkv, whole);
    emulation::set_thread_order(ThreadOrder::kLastToFirst);
    CHECK(run(batch, memory, batch.asked, Splitting::kAlways) == whole);
    if (capability == 8) continue;
    // Each sequence alone, whose blocks nobody shares.
    Result apart;
    for (const SequenceSlice& slice : batch.asked) {
      const Result one = run(batch, memory, {slice}, Splitting::kAlways);
      apart.out.insert(apart.out.end(), one.out.begin(), one.out.end());
      apart.lse.insert(apart.lse.end(), one.lse.begin(), one.lse.end());
    }
    CHECK(apart == whole);
  }
}

EMULATION_TEST(cuda_attention_splits_decode_to_the_bit) {
  check_batch(decode_batch({3, 1, 64}));
  Batch batch({2, 1, 128});
  batch.add(2 * kSpanKeys + 70, 1);
  batch.add(2 * kSpanKeys + 1, 1, 0, kSpanKeys);
  check_batch(batch);
}

EMULATION_TEST(cuda_attention_splits_tiles_to_the_bit) {
  check_batch(tile_batch({7, 1, 64}));
  Batch batch({4, 2, 128});
  batch.add(kSpanKeys + 9, 12);
  check_batch(batch);
}

// A bf16 number whose product with `factor` is nearly one too.
float nearly_scalable(float factor) {
  float best = 1, least = 1;
  for (float x = 1; x < 2; x += 1.0f / 128) {
    const float error = std::fabs(bf16_to_float(float_to_bf16(x * factor)) - x * factor);
    if (error < least) {
      best = x;
      least = error;
    }
  }
  return best;
}

// Two spans whose sums of values cancel but for 2^-16 or so: in what is left, the last bits of both show in bf16, so
// that the two ways of merging must round alike at every instruction.
EMULATION_TEST(cuda_attention_merges_spans_by_one_formula) {
  Batch batch({7, 1, 64});
  batch.add(2 * kSpanKeys, 1);
  Memory memory(batch);
  const int64_t H = batch.shape.num_heads, D = batch.shape.head_dim, width = batch.shape.qkv_size();
  const float factor = std::exp(-0.5f), value = nearly_scalable(factor);
  uint16_t* const last = memory.qkv.data() + (batch.num_rows - 1) * width;
  for (int64_t h = 0; h < H; ++h) last[h * D] = float_to_bf16(4);  // scores of the second span are larger by 4 / 8
  for (int64_t p = 0; p < kSpanKeys; ++p) {
    uint16_t *const first = memory.qkv.data() + p * width + H * D, *const second = first + kSpanKeys * width;
    std::copy(first, first + D, second);
    first[0] = float_to_bf16(0);
    second[0] = float_to_bf16(1);
    for (int64_t d = D; d < 2 * D; ++d) {
      const float signed_value = first[d] >> 15 ? -value : value;
      first[d] = float_to_bf16(signed_value);
      second[d] = float_to_bf16(-signed_value * factor);
    }
  }
  memory.store(batch);
  for (const int capability : {9, 8}) {
    emulation::set_compute_capability(capability);
    CHECK(run(batch, memory, batch.asked, Splitting::kAlways) == run(batch, memory, batch.asked, Splitting::kNever));
  }
}

// ---- which parts are listed

cuda::HostParts parts_of(const AttentionShape& shape, const Batch& batch, Splitting splitting) {
  std::vector<cuda::QueryTile> tiles;
  std::vector<int32_t> tables;
  for (const SequenceSlice& slice : batch.asked) {
    const auto length = static_cast<int32_t>(slice.first_position + slice.num_rows);
    tiles.push_back({static_cast<int32_t>(slice.first_row), static_cast<int32_t>(slice.num_rows),
                     static_cast<int32_t>(slice.first_position), static_cast<int32_t>(tables.size()), length});
    tables.insert(tables.end(), slice.block_table, slice.block_table + (length + 15) / 16);
  }
  return cuda::list_query_parts(cuda::Heads(shape), tiles, tables, splitting);
}

EMULATION_TEST(cuda_attention_reads_shared_spans_once) {
  const AttentionShape shape{4, 1, 128};
  const Batch batch = decode_batch(shape);
  const cuda::HostParts parts = parts_of(shape, batch, Splitting::kAlways);
  int shared = 0, apart = 0, whole = 0;
  for (const cuda::QueryPart& part : parts.parts) {
    if (part.members >= 0) {
      shared += part.num_rows;
      CHECK(part.end - part.first == kSpanKeys);
    }
    apart += part.members < 0 && part.partial >= 0;
    whole += part.partial < 0;
  }
  // Span 0 is read by four sequences, span 1 by three and span 2 by two.
  CHECK(shared == 4 + 3 + 2 && whole == 1);
  CHECK(apart == (4 - 3) + (4 - 3) + (3 - 1) + 2 + 2 + (4 - 2));
  CHECK(parts.waves.size() == 1 && parts.merged.size() == 6);
  // Forty sequences with one prompt: no more than 128 packed rows a block.
  Batch many(shape);
  for (int s = 0; s < 40; ++s) many.add(kSpanKeys + 20, 1, 0, s == 0 ? 0 : kSpanKeys);
  const cuda::HostParts of_many = parts_of(shape, many, Splitting::kAsNeeded);
  CHECK(of_many.parts.size() == 2 + 40);
  CHECK(of_many.partial_rows == 40 * 2 * 4);
}

EMULATION_TEST(cuda_attention_splits_where_the_device_would_idle) {
  const AttentionShape shape{4, 1, 128};
  Batch one(shape);
  one.add(2 * kSpanKeys + 1, 1);
  CHECK(parts_of(shape, one, Splitting::kAsNeeded).parts.size() == 3);
  CHECK(parts_of(shape, one, Splitting::kNever).parts.size() == 1);
  Batch full(shape);
  full.add(3 * kSpanKeys, 3 * kSpanKeys);
  std::vector<int32_t> tables = full.tables[0];
  std::vector<cuda::QueryTile> tiles;
  for (int32_t p = 0; p < 64 * kSpanKeys; p += 32) tiles.push_back({p, 32, p % (3 * kSpanKeys), 0, 3 * kSpanKeys});
  const cuda::HostParts whole = cuda::list_query_parts(cuda::Heads(shape), tiles, tables, Splitting::kAsNeeded);
  CHECK(whole.parts.size() == tiles.size() && whole.partial_rows == 0 && whole.merges_inside);
  // Partial results that do not fit at one time are computed in waves.
  const cuda::HostParts waves = cuda::list_query_parts(cuda::Heads(shape), tiles, tables, Splitting::kAlways);
  CHECK(waves.waves.size() > 1);
  CHECK(waves.partial_rows <= cuda::most_partial_rows(cuda::Heads(shape), 64 * kSpanKeys, 3 * kSpanKeys));
  int64_t parts = 0, merged = 0;
  for (const cuda::PartWave& wave : waves.waves) {
    CHECK(wave.first_part == parts && wave.first_merged == merged);
    parts += wave.num_parts;
    merged += wave.num_merged;
  }
  CHECK(parts == static_cast<int64_t>(waves.parts.size()) && merged == static_cast<int64_t>(waves.merged.size()));
}

}  // namespace
