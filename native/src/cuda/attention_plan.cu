// Lists tiles of queries and of keys on the host and uploads each set of lists in one piece.
#include "cuda/attention_plan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "cuda/attention.h"
#include "cuda/attention_parts.h"
#include "cuda/hopper.h"

namespace wideseek::cuda {
namespace {

constexpr int64_t kBlockTokens = kKvBlockTokens;

int64_t length_of(const SequenceSlice& slice) { return slice.first_position + slice.num_rows; }

void check_arguments(const AttentionShape& shape, const SequenceSlice* slices, int64_t num_slices) {
  WS_CHECK(
      shape.num_kv_heads > 0 && shape.num_heads > 0 && shape.num_heads % shape.num_kv_heads == 0 && shape.head_dim > 0,
      kInvalidArgument, "plan_attention",
      "num_heads " + std::to_string(shape.num_heads) + ", num_kv_heads " + std::to_string(shape.num_kv_heads) +
          ", head_dim " + std::to_string(shape.head_dim) + "; kv heads must divide heads");
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / kBlockTokens;
  for (int64_t s = 0; s < num_slices; ++s) {
    const SequenceSlice& slice = slices[s];
    WS_CHECK(slice.first_row >= 0 && slice.num_rows >= 0 && slice.first_position >= 0 &&
                 slice.first_row + slice.num_rows <= kMost && length_of(slice) <= kMost,
             kInvalidArgument, "plan_attention",
             "slice " + std::to_string(s) + " has first_row " + std::to_string(slice.first_row) + ", num_rows " +
                 std::to_string(slice.num_rows) + ", first_position " + std::to_string(slice.first_position));
    for (int64_t b = 0; slice.num_rows > 0 && b * kBlockTokens < length_of(slice); ++b) {
      WS_CHECK(slice.block_table[b] >= 0 && slice.block_table[b] < kMost, kInvalidArgument, "plan_attention",
               "slice " + std::to_string(s) + " names block " + std::to_string(slice.block_table[b]));
    }
  }
}

// Lists laid one after the other, each at a multiple of 16 bytes.
class Lists {
 public:
  template <typename T>
  int64_t add(const std::vector<T>& list) {
    static_assert(sizeof(T) % sizeof(int32_t) == 0);
    const auto at = static_cast<int64_t>(words_.size());
    const size_t words = list.size() * sizeof(T) / sizeof(int32_t);
    words_.resize(words_.size() + (words + 3) / 4 * 4);
    if (words > 0) std::memcpy(words_.data() + at, list.data(), words * sizeof(int32_t));
    return at;
  }
  const int32_t* upload(Backend& backend, PlanMemory& memory) const {
    if (words_.empty()) return nullptr;
    int32_t* const place = memory.take(static_cast<int64_t>(words_.size()));
    backend.upload(place, words_.data(), static_cast<int64_t>(words_.size() * sizeof(int32_t)));
    return place;
  }

 private:
  std::vector<int32_t> words_;
};

template <typename T>
const T* list_at(const int32_t* memory, int64_t offset) {
  return memory == nullptr ? nullptr : reinterpret_cast<const T*>(memory + offset);
}

// What the slices of a batch do with one block.
struct BlockUse {
  int32_t table_index = -1;      // which 16 positions it covers; -1 = not in use
  int32_t num_tokens = 0;        // that any slice knows of
  std::vector<int32_t> readers;  // slices that name it, in order
  int32_t rows[kBlockTokens];    // that stored its tokens; -1 = none
};

std::vector<BlockUse> list_block_uses(const SequenceSlice* slices, int64_t num_slices) {
  std::vector<BlockUse> uses;
  for (int64_t s = 0; s < num_slices; ++s) {
    const SequenceSlice& slice = slices[s];
    for (int64_t b = 0; slice.num_rows > 0 && b * kBlockTokens < length_of(slice); ++b) {
      const auto block = static_cast<size_t>(slice.block_table[b]);
      if (block >= uses.size()) uses.resize(block + 1);
      BlockUse& use = uses[block];
      if (use.table_index < 0) std::fill(std::begin(use.rows), std::end(use.rows), -1);
      WS_CHECK(use.table_index < 0 || use.table_index == b, kInvalidArgument, "attention_backward",
               "block " + std::to_string(block) + " is at two different positions of sequences");
      use.table_index = static_cast<int32_t>(b);
      use.num_tokens =
          std::max(use.num_tokens, static_cast<int32_t>(std::min(kBlockTokens, length_of(slice) - b * kBlockTokens)));
      use.readers.push_back(static_cast<int32_t>(s));
    }
    for (int64_t i = 0; i < slice.num_rows; ++i) {
      const int64_t position = slice.first_position + i;
      int32_t& row =
          uses[static_cast<size_t>(slice.block_table[position / kBlockTokens])].rows[position % kBlockTokens];
      WS_CHECK(
          row < 0, kInvalidArgument, "attention_backward",
          "rows " + std::to_string(row) + " and " + std::to_string(slice.first_row + i) + " are stored to one place");
      row = static_cast<int32_t>(slice.first_row + i);
    }
  }
  return uses;
}

struct HostKeyTiles {
  int64_t tile_blocks;
  std::vector<KeyTile> tiles;
  std::vector<QueryRange> ranges;
  std::vector<int32_t> key_rows;
};

// Appends blocks [first, last) of the slice's table as one tile.
void add_key_tile(HostKeyTiles& lists, const SequenceSlice* slices, const SequenceSlice& slice,
                  const std::vector<BlockUse>& uses, int64_t first, int64_t last) {
  KeyTile tile{};
  tile.position = static_cast<int32_t>(first * kBlockTokens);
  tile.first_range = static_cast<int32_t>(lists.ranges.size());
  const size_t rows_at = lists.key_rows.size();
  lists.key_rows.resize(rows_at + static_cast<size_t>(lists.tile_blocks * kBlockTokens), -1);
  for (int64_t b = first; b < last; ++b) {
    const int32_t block = slice.block_table[b];
    const BlockUse& use = uses[static_cast<size_t>(block)];
    tile.blocks[b - first] = block;
    tile.num_keys = static_cast<int32_t>((b - first) * kBlockTokens) + use.num_tokens;
    std::copy(std::begin(use.rows), std::end(use.rows),
              lists.key_rows.begin() + static_cast<int64_t>(rows_at) + (b - first) * kBlockTokens);
  }
  for (const int32_t reader : uses[static_cast<size_t>(tile.blocks[0])].readers) {
    const SequenceSlice& reading = slices[reader];
    const int64_t position = std::max<int64_t>(reading.first_position, tile.position);
    lists.ranges.push_back({static_cast<int32_t>(reading.first_row + position - reading.first_position),
                            static_cast<int32_t>(length_of(reading) - position), static_cast<int32_t>(position)});
  }
  tile.num_ranges = static_cast<int32_t>(lists.ranges.size()) - tile.first_range;
  lists.tiles.push_back(tile);
}

HostKeyTiles list_key_tiles(const SequenceSlice* slices, int64_t num_slices, int64_t tile_blocks) {
  const std::vector<BlockUse> uses = list_block_uses(slices, num_slices);
  HostKeyTiles lists{tile_blocks, {}, {}, {}};
  for (int64_t s = 0; s < num_slices; ++s) {
    const SequenceSlice& slice = slices[s];
    if (slice.num_rows == 0) continue;
    const int64_t num_blocks = ceil_div(length_of(slice), kBlockTokens);
    const auto use_of = [&](int64_t b) -> const BlockUse& { return uses[static_cast<size_t>(slice.block_table[b])]; };
    for (int64_t first = 0; first < num_blocks;) {
      int64_t last = first + 1;
      if (use_of(first).readers.front() == s) {  // else an earlier slice has listed it
        while (last < num_blocks && last - first < tile_blocks && use_of(last - 1).num_tokens == kBlockTokens &&
               use_of(last).readers == use_of(first).readers) {
          ++last;
        }
        add_key_tile(lists, slices, slice, uses, first, last);
      }
      first = last;
    }
  }
  return lists;
}

// Most work first, so that no long tile begins when the others end.
void sort_by_work(HostKeyTiles& lists) {
  std::vector<int64_t> work(lists.tiles.size()), order(lists.tiles.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t t = 0; t < work.size(); ++t) {
    const KeyTile& tile = lists.tiles[t];
    for (int32_t r = 0; r < tile.num_ranges; ++r)
      work[t] += lists.ranges[static_cast<size_t>(tile.first_range + r)].num_rows;
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return work[a] > work[b]; });
  HostKeyTiles sorted{lists.tile_blocks, {}, {}, {}};
  const int64_t tile_keys = lists.tile_blocks * kBlockTokens;
  for (const int64_t t : order) {
    sorted.tiles.push_back(lists.tiles[static_cast<size_t>(t)]);
    const auto rows = lists.key_rows.begin() + t * tile_keys;
    sorted.key_rows.insert(sorted.key_rows.end(), rows, rows + tile_keys);
  }
  lists.tiles = std::move(sorted.tiles);
  lists.key_rows = std::move(sorted.key_rows);
}

}  // namespace

Heads::Heads(const AttentionShape& shape)
    : num_heads(static_cast<int32_t>(shape.num_heads)),
      num_kv_heads(static_cast<int32_t>(shape.num_kv_heads)),
      head_dim(static_cast<int32_t>(shape.head_dim)),
      group(num_heads / num_kv_heads),
      per_group(65535u / static_cast<uint32_t>(group) + 1),
      tile_positions(std::max(1, kTileRows / group)) {}

// A tile of queries has a row of its own at least, one of keys a block, and a sequence a block for every token at most.
// Split tiles may have more parts than rows, but only few are split where there are many; their lists may get memory of
// their own.
int64_t attention_plan_bytes(int64_t tokens, bool backward) {
  constexpr int64_t kListEnds = 10 * 16;
  constexpr int64_t kQuery = sizeof(QueryTile) + sizeof(QueryPart) + sizeof(MergedRow) + 4 * sizeof(int32_t);
  constexpr int64_t kKey = sizeof(KeyTile) + sizeof(QueryRange) + kMaxKeyTileBlocks * kBlockTokens * sizeof(int32_t);
  return kListEnds + tokens * (kQuery + (backward ? kKey : 0));
}

// A row has a place among merged rows, and for each of its spans a part, a start and a place among members, at most.
// Padding may add half of the parts.
int64_t forward_plan_bytes(int64_t rows, int64_t kv_blocks) {
  constexpr int64_t kRow = sizeof(QueryTile) + sizeof(MergedRow) + sizeof(int32_t);
  constexpr int64_t kPart = sizeof(QueryPart) * 3 / 2 + 2 * sizeof(int32_t);
  const int64_t parts = rows + kv_blocks * kBlockTokens / kSpanKeys;
  return attention_plan_bytes(0, false) + rows * kRow + parts * kPart +
         kv_blocks * static_cast<int64_t>(sizeof(int32_t));
}

void PlanArena::reserve(int64_t bytes) {
  WS_CHECK(!is_lent_, kInternal, "plan_attention", "reserved while a plan is in use");
  if (bytes <= memory_.bytes()) return;
  memory_ = DeviceArray<int32_t>();
  memory_ = DeviceArray<int32_t>(backend_, ceil_div<int64_t>(bytes, sizeof(int32_t)));
}

PlanMemory::PlanMemory(Backend& backend, PlanArena* arena)
    : backend_(backend), arena_(arena == nullptr || arena->is_lent_ ? nullptr : arena) {
  if (arena_ != nullptr) arena_->is_lent_ = true;
}

PlanMemory::~PlanMemory() {
  if (arena_ != nullptr) arena_->is_lent_ = false;
}

int32_t* PlanMemory::take(int64_t words) {
  if (words == 0) return nullptr;
  if (arena_ != nullptr && used_ + words <= arena_->memory_.count()) {
    return arena_->memory_.get() + std::exchange(used_, used_ + words);
  }
  return own_.emplace_back(backend_, words).get();
}

CudaAttentionPlan::CudaAttentionPlan(Backend& backend, const AttentionShape& shape, const SequenceSlice* slices,
                                     int64_t num_slices, int64_t num_rows, PlanArena* arena, Splitting splitting)
    : backend_(backend),
      heads_((check_arguments(shape, slices, num_slices), shape)),
      slices_(slices),
      num_slices_(num_slices),
      memory_(backend, arena),
      query_parts_(std::make_unique<QueryParts>()) {
  std::vector<QueryTile> tiles;
  std::vector<int32_t> tables;
  int64_t slice_rows = 0;
  for (int64_t s = 0; s < num_slices; ++s)
    if (slices[s].num_rows > 0) slice_rows = std::max(slice_rows, slices[s].first_row + slices[s].num_rows);
  num_rows = std::max(num_rows, slice_rows);
  std::vector<int32_t> row_slots(static_cast<size_t>(num_rows), -1);
  for (int64_t s = 0; s < num_slices; ++s) {
    const SequenceSlice& slice = slices[s];
    if (slice.num_rows == 0) continue;
    const auto table = static_cast<int32_t>(tables.size());
    tables.insert(tables.end(), slice.block_table, slice.block_table + ceil_div(length_of(slice), kBlockTokens));
    for (int64_t i = 0; i < slice.num_rows; ++i) {
      const int64_t position = slice.first_position + i;
      row_slots[static_cast<size_t>(slice.first_row + i)] =
          static_cast<int32_t>(slice.block_table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens);
    }
    for (int64_t i = 0; i < slice.num_rows;) {
      const int64_t position = slice.first_position + i;
      const int64_t count = std::min({slice.num_rows - i, heads_.tile_positions - position % heads_.tile_positions,
                                      kSpanKeys - position % kSpanKeys});
      tiles.push_back({static_cast<int32_t>(slice.first_row + i), static_cast<int32_t>(count),
                       static_cast<int32_t>(position), table, static_cast<int32_t>(length_of(slice))});
      i += count;
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const QueryTile& a, const QueryTile& b) { return a.position > b.position; });
  // A row of no slice gets a tile too, so that a padded step has as many tiles as rows, wherever its sequences stand:
  // it attends to the first key of the first sequence.
  for (int64_t row = slice_rows; slice_rows > 0 && static_cast<int64_t>(tiles.size()) < num_rows && row < num_rows;) {
    tiles.push_back({static_cast<int32_t>(row), 1, 0, 0, 1});
    if (row + 1 < num_rows) ++row;  // the rest repeat the last row
  }
  HostParts parts = list_query_parts(heads_, tiles, tables, splitting);
  may_be_recorded_ = static_cast<int64_t>(tiles.size()) == num_rows && pad_parts(parts, num_rows);
  // What lies where depends on the launches alone, but for the end of the tables.
  Lists lists;
  const int64_t tiles_at = lists.add(tiles), slots_at = lists.add(row_slots), parts_at = lists.add(parts.parts),
                merged_at = lists.add(parts.merged), tables_at = lists.add(tables);
  const int32_t* const memory = lists.upload(backend, memory_);
  query_tiles_ = {list_at<QueryTile>(memory, tiles_at), list_at<int32_t>(memory, tables_at),
                  list_at<int32_t>(memory, slots_at), static_cast<int64_t>(tiles.size()),
                  static_cast<int64_t>(row_slots.size())};
  *query_parts_ = {list_at<QueryPart>(memory, parts_at), list_at<MergedRow>(memory, merged_at), std::move(parts.waves),
                   parts.partial_rows, parts.merges_inside};
}

CudaAttentionPlan::~CudaAttentionPlan() = default;

uint64_t CudaAttentionPlan::recording_key() const {
  if (!may_be_recorded_ || !memory_.is_in_arena()) return 0;
  const PartWave& wave = query_parts_->waves.front();
  uint64_t key = 0;
  for (const uint64_t launched :
       {static_cast<uint64_t>(reinterpret_cast<uintptr_t>(query_tiles_.tiles)),
        static_cast<uint64_t>(query_tiles_.num_rows), static_cast<uint64_t>(wave.num_parts),
        static_cast<uint64_t>(wave.num_merged), static_cast<uint64_t>(query_parts_->merges_inside)}) {
    key = (key ^ launched) * 0x9E3779B97F4A7C15u;
    key ^= key >> 32;
  }
  return key;
}

const KeyTiles& CudaAttentionPlan::key_tiles() const {
  if (has_key_tiles_) return key_tiles_;
  HostKeyTiles host =
      list_key_tiles(slices_, num_slices_, attention_uses_wgmma() ? kMaxKeyTileBlocks : kMaxKeyTileBlocks / 2);
  sort_by_work(host);
  Lists lists;
  const int64_t tiles_at = lists.add(host.tiles), ranges_at = lists.add(host.ranges),
                rows_at = lists.add(host.key_rows);
  const int32_t* const memory = lists.upload(backend_, memory_);
  key_tiles_ = {list_at<KeyTile>(memory, tiles_at), list_at<QueryRange>(memory, ranges_at),
                list_at<int32_t>(memory, rows_at), static_cast<int64_t>(host.tiles.size()),
                static_cast<int32_t>(host.tile_blocks * kBlockTokens)};
  has_key_tiles_ = true;
  return key_tiles_;
}

bool attention_uses_wgmma() {
  const char* named = std::getenv("WIDESEEK_ATTENTION");
  const std::string wanted = named == nullptr ? "" : named;
  WS_CHECK(wanted.empty() || wanted == "mma", kInvalidArgument, "plan_attention",
           "WIDESEEK_ATTENTION is \"" + wanted + "\"; it may be \"mma\" or empty");
  return wanted.empty() && device_has_wgmma();
}

std::unique_ptr<AttentionPlan> plan_attention(Backend& backend, const AttentionShape& shape,
                                              const SequenceSlice* slices, int64_t num_slices, int64_t num_rows,
                                              PlanArena* arena, Splitting splitting) {
  return std::make_unique<CudaAttentionPlan>(backend, shape, slices, num_slices, num_rows, arena, splitting);
}

const CudaAttentionPlan& cuda_plan(const AttentionPlan& plan) {
  const auto* own = dynamic_cast<const CudaAttentionPlan*>(&plan);
  WS_CHECK(own != nullptr, kInternal, "attention", "the plan is not of this device");
  return *own;
}

}  // namespace wideseek::cuda
