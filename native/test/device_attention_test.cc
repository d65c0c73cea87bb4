// Attention on the device against the CPU backend, with prefixes that sequences share, and that a row depends on its
// own sequence alone.
#include <cstdlib>
#include <limits>
#include <optional>

#include "cuda/gpu.h"
#include "parity.h"

using namespace parity;

namespace {

// Attention by the kernels of compute capability 8.0, whatever the device has.
class OlderKernels {
 public:
  OlderKernels() { setenv("WIDESEEK_ATTENTION", "mma", 1); }
  OlderKernels(const OlderKernels&) = delete;
  OlderKernels& operator=(const OlderKernels&) = delete;
  ~OlderKernels() { unsetenv("WIDESEEK_ATTENTION"); }
};

// Slices of a packed batch and their blocks.
struct Packed {
  AttentionShape shape;
  std::vector<SequenceSlice> slices;
  std::vector<Integers> tables;
  int64_t rows = 0;
  int32_t num_blocks = 0;

  // New tokens after the first `shared` ones (whole blocks) of slice `parent`; returns the slice.
  size_t add(int64_t num_rows, int64_t shared = 0, size_t parent = 0) {
    Integers table;
    if (shared > 0) table.assign(tables[parent].begin(), tables[parent].begin() + shared / kKvBlockTokens);
    while (static_cast<int64_t>(table.size()) * kKvBlockTokens < shared + num_rows) table.push_back(num_blocks++);
    tables.push_back(table);
    slices.push_back({rows, num_rows, shared, nullptr});
    rows += num_rows;
    for (size_t s = 0; s < slices.size(); ++s) slices[s].block_table = tables[s].data();
    return slices.size() - 1;
  }
  int64_t num_slices() const { return static_cast<int64_t>(slices.size()); }
  int64_t head_columns() const { return shape.num_heads * shape.head_dim; }
  int64_t block_elements() const { return num_blocks * kKvBlockTokens * shape.num_kv_heads * shape.head_dim; }
};

Outputs run_attention(const Side& side, const Packed& packed, const Floats& of_qkv) {
  const int64_t out_elements = packed.rows * packed.head_columns();
  const Array qkv = side.activations(of_qkv), dout = side.activations(values(2, out_elements));
  const Array out = side.blank(out_elements), lse = side.blank_floats(packed.rows * packed.shape.num_heads);
  const Array dqkv = side.blank(packed.rows * packed.shape.qkv_size());
  std::vector<Array> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(side.blank(packed.block_elements()));
  const KvBlocks cache{blocks[0], blocks[1]}, dcache{blocks[2], blocks[3]};
  const auto plan = side.backend.plan_attention(packed.shape, packed.slices.data(), packed.num_slices());
  side.backend.kv_store(cache, qkv, *plan);
  side.backend.attention_forward(out, lse.fp32(), qkv, cache, *plan);
  side.backend.attention_backward(dqkv, dout, out, lse.fp32(), qkv, cache, dcache, *plan);
  return {{"out", out, Promise::kRounded}, {"lse", lse, Promise::kSums}, {"dqkv", dqkv, Promise::kRounded}};
}

void check_attention(const std::string& name, const Packed& packed) {
  check_operation("attention " + name + " of " + std::to_string(packed.shape.head_dim), [&](const Side& side) {
    return run_attention(side, packed, values(1, packed.rows * packed.shape.qkv_size()));
  });
}

void check_forests() {
  // Head sizes of the plain kernels and of tensor cores.
  for (const AttentionShape& shape :
       sizes<AttentionShape>({{4, 2, 20}, {2, 1, 64}}, {{2, 1, 128}, {32, 8, 128}, {16, 8, 128}, {14, 2, 64}})) {
    Packed packed{shape, {}, {}};
    const size_t first = packed.add(94);
    packed.add(1);
    const size_t second = packed.add(23, 80, first);
    packed.add(70, 32, first);
    packed.add(1, 96, second);
    check_attention("forest", packed);
    check_attention("empty", {shape, {}, {}});
  }
}

void check_real_sizes() {
  for (const AttentionShape& shape : {AttentionShape{32, 8, 128}, {28, 4, 128}, {14, 2, 64}, {4, 2, 96}}) {
    Packed packed{shape, {}, {}};
    const size_t whole = packed.add(2048);
    packed.add(700, 1024, whole);
    packed.add(900, 1024, whole);
    packed.add(447);
    packed.add(1);
    check_attention("4096 rows", packed);
  }
}

// A sequence of `length` tokens, its first rows as slices that begin at `starts`, after another sequence of 37.
Floats sequence_rows(const Side& side, const AttentionShape& shape, int64_t length, const std::vector<int64_t>& starts,
                     bool among_others) {
  Packed packed{shape, {}, {}};
  if (among_others) packed.add(37);
  const int64_t first_row = packed.rows;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : length;
    packed.slices.push_back({first_row + starts[i], end - starts[i], starts[i], nullptr});
  }
  Integers table;
  while (static_cast<int64_t>(table.size()) * kKvBlockTokens < length) table.push_back(packed.num_blocks++);
  std::reverse(table.begin(), table.end());
  for (size_t s = among_others ? 1 : 0; s < packed.slices.size(); ++s) packed.slices[s].block_table = table.data();
  packed.rows = first_row + length;
  Floats qkv = values(5, first_row * shape.qkv_size());
  const Floats own = values(6, length * shape.qkv_size());
  qkv.insert(qkv.end(), own.begin(), own.end());

  const Array rows = side.activations(qkv), out = side.blank(packed.rows * packed.head_columns());
  const Array lse = side.blank_floats(packed.rows * shape.num_heads);
  const Array keys = side.blank(packed.block_elements()), of_values = side.blank(packed.block_elements());
  const auto plan = side.backend.plan_attention(shape, packed.slices.data(), packed.num_slices());
  side.backend.kv_store({keys, of_values}, rows, *plan);
  side.backend.attention_forward(out, lse.fp32(), rows, {keys, of_values}, *plan);
  Floats result = out.read();
  const Floats sums = lse.read();
  result.erase(result.begin(), result.begin() + first_row * packed.head_columns());
  result.insert(result.end(), sums.begin() + first_row * shape.num_heads, sums.end());
  return result;
}

void check_rows_alone() {
  const int64_t length = device::is_real() ? 1500 : 130;
  const auto cuts = sizes<std::vector<int64_t>>({{0, 1, 77, length - 1}}, {{0, 64}, {0, 53, 96}, {0, 1000, 1007}});
  for (const AttentionShape& shape :
       sizes<AttentionShape>({{4, 2, 20}, {2, 1, 64}}, {{2, 1, 128}, {32, 8, 128}, {14, 2, 64}})) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const auto backend = device::create(dtype);
      const Side side(*backend, dtype);
      const Floats whole = sequence_rows(side, shape, length, {0}, false);
      for (const auto& starts : cuts) {
        for (const bool among_others : {false, true}) {
          CHECK(same_bits(sequence_rows(side, shape, length, starts, among_others), whole));
        }
      }
    }
  }
}

// Steps of four sequences, two of which begin alike, and two rows of none, at contexts of one to three spans of keys.
class RecordedSteps {
 public:
  RecordedSteps() : backend_(device::create(DType::kBFloat16)), side_(*backend_, DType::kBFloat16) {
    int32_t num_blocks = 0;
    for (Integers& table : tables_) {
      const int64_t shared = &table == &tables_[1] ? kShared : 0;
      table.assign(tables_[0].begin(), tables_[0].begin() + shared / kKvBlockTokens);
      while (static_cast<int64_t>(table.size()) * kKvBlockTokens < kLongest) table.push_back(num_blocks++);
    }
    const int64_t elements = num_blocks * kKvBlockTokens * kShape.head_dim;
    keys_.emplace(side_.activations(values(1, elements)));
    values_.emplace(side_.activations(values(2, elements)));
    qkv_.emplace(side_.activations(values(3, kRows * kShape.qkv_size())));
    direct_.emplace(side_.blank(kOut));
    replayed_.emplace(side_.blank(kOut));
    backend_->reserve({kShape, 128, kRows, 1, false, kRows * kLongest / kKvBlockTokens, kLongest});
  }
  // Whether a step at these contexts gives the same by the recording of its key, and how often there was one.
  bool is_equal(const std::vector<int64_t>& contexts) {
    std::vector<SequenceSlice> slices;
    for (size_t s = 0; s < contexts.size(); ++s)
      slices.push_back({static_cast<int64_t>(s), 1, contexts[s] - 1, tables_[s].data()});
    const auto plan = backend_->plan_attention(kShape, slices.data(), static_cast<int64_t>(slices.size()), kRows);
    const auto attend = [&](const Array& out) {
      backend_->attention_forward(out, nullptr, *qkv_, {*keys_, *values_}, *plan);
    };
    CHECK(plan->recording_key() != 0);
    attend(*direct_);
    backend_->replay(plan->recording_key(), [&] { attend(*replayed_); });
    const auto rows = static_cast<int64_t>(contexts.size()) * kOut / kRows;
    return same_bits(direct_->read(0, rows), replayed_->read(0, rows));
  }
  int64_t num_replays() const { return backend_->num_replays(); }

 private:
  static constexpr AttentionShape kShape{2, 1, 64};
  static constexpr int64_t kRows = 6, kShared = 2048, kLongest = 3104,
                           kOut = kRows * kShape.num_heads * kShape.head_dim;
  std::unique_ptr<Backend> backend_;
  Side side_;
  std::vector<Integers> tables_{4};
  std::optional<Array> keys_, values_, qkv_, direct_, replayed_;
};

}  // namespace

TEST(device_recorded_attention_takes_longer_contexts_and_allocates_nothing) {
  RecordedSteps steps;
  if (!device::is_real()) cuda::set_emulated_free_bytes(0);
  CHECK(steps.is_equal({1030, 1100, 200, 17}));
  CHECK(steps.is_equal({1031, 1101, 201, 18}));
  CHECK(steps.is_equal({1090, 2047, 1030, 19}));  // one more is of two spans
  CHECK(steps.is_equal({3000, 3070, 1500, 20}));  // more than was recorded
  CHECK(steps.is_equal({3001, 3071, 1501, 21}));
  CHECK(steps.is_equal({3002, 3072, 40, 1022}));
  CHECK(steps.num_replays() >= 2);
  if (!device::is_real()) cuda::set_emulated_free_bytes(std::numeric_limits<int64_t>::max());
}

TEST(device_attention_equals_the_cpu) { check_forests(); }

TEST(device_attention_of_older_kernels_equals_the_cpu) {
  const OlderKernels older;
  check_forests();
}

DEVICE_TEST(device_attention_equals_the_cpu_at_real_sizes) { check_real_sizes(); }

DEVICE_TEST(device_attention_of_older_kernels_equals_the_cpu_at_real_sizes) {
  const OlderKernels older;
  check_real_sizes();
}

TEST(device_attention_rows_depend_on_their_sequence_alone) { check_rows_alone(); }

TEST(device_attention_rows_of_older_kernels_depend_on_their_sequence_alone) {
  const OlderKernels older;
  check_rows_alone();
}
