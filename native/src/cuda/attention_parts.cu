// Lists parts on the host.
#include "cuda/attention_parts.h"

#include <algorithm>
#include <cstring>

#include "cuda/attention.h"
#include "cuda/attention_forward.h"
#include "cuda/attention_span.h"
#include "cuda/recordings.h"

namespace wideseek::cuda {
namespace {

constexpr int64_t kSpanBlocks = kSpanKeys / kKvBlockTokens;
// Of all partial results that exist at a time, unless one tile has more.
constexpr int64_t kPartialFloats = int64_t{1} << 24;

int32_t end_of(const QueryTile& tile) { return tile.position + tile.num_rows; }
int32_t num_spans(const QueryTile& tile) { return ceil_div(end_of(tile), kSpanKeys); }
// Spans that all rows attend to wholly, with keys to follow.
int32_t num_whole_spans(const QueryTile& tile) { return tile.position / kSpanKeys; }

int64_t rows_of_wave(const Heads& heads) { return kPartialFloats / Partials::floats(heads, 1); }

class Lister {
 public:
  Lister(const Heads& heads, std::vector<int32_t>& tables) : heads_(heads), tables_(tables) {}

  HostParts list(const std::vector<QueryTile>& tiles, Splitting splitting) {
    const DeviceLimits limits = device_limits();
    const bool can_merge_inside =
        attention_uses_wgmma() || tensor_forward_shared_bytes(heads_.head_dim, true) <= limits.shared_bytes;
    int64_t keys = 0;
    for (const QueryTile& tile : tiles) keys += end_of(tile);
    std::vector<QueryTile> several;
    for (const QueryTile& tile : tiles) {
      if (num_spans(tile) > 1 && (splitting != Splitting::kNever || !can_merge_inside))
        several.push_back(tile);
      else
        add_whole(tile);
    }
    std::stable_sort(several.begin(), several.end(),
                     [this](const QueryTile& a, const QueryTile& b) { return comes_before(a, b); });
    std::vector<QueryTile> split;
    for (size_t i = 0; i < several.size(); ++i) {
      // More than half of what a multiprocessor gets on average: others would wait for it.
      const bool is_long = end_of(several[i]) * 2 * limits.multiprocessors > keys * heads_.num_kv_heads;
      const bool shares = (i > 0 && shared_spans(several[i - 1], several[i]) > 0) ||
                          (i + 1 < several.size() && shared_spans(several[i], several[i + 1]) > 0);
      if (is_long || shares || splitting == Splitting::kAlways || !can_merge_inside)
        split.push_back(several[i]);
      else
        add_whole(several[i]);
    }
    // Longest first, so that no long part begins when the others end.
    std::stable_sort(lists_.parts.begin(), lists_.parts.end(),
                     [](const QueryPart& a, const QueryPart& b) { return a.end > b.end; });
    add_waves(split);
    return std::move(lists_);
  }

 private:
  void add_whole(const QueryTile& tile) {
    lists_.merges_inside = lists_.merges_inside || num_spans(tile) > 1;
    lists_.parts.push_back({tile.row, tile.num_rows, tile.position, tile.table, tile.length, 0, end_of(tile), -1, -1});
  }

  bool may_share(const QueryTile& tile) const { return 2 * tile.num_rows * heads_.group <= kTileRows; }
  const int32_t* table_of(const QueryTile& tile) const { return tables_.data() + tile.table; }
  // Of the blocks of that span.
  int compare(const QueryTile& a, const QueryTile& b, int32_t span) const {
    return std::memcmp(table_of(a) + span * kSpanBlocks, table_of(b) + span * kSpanBlocks,
                       kSpanBlocks * sizeof(int32_t));
  }
  int32_t shared_spans(const QueryTile& a, const QueryTile& b) const {
    if (!may_share(a) || !may_share(b)) return 0;
    const int32_t most = std::min(num_whole_spans(a), num_whole_spans(b));
    int32_t span = 0;
    while (span < most && compare(a, b, span) == 0) ++span;
    return span;
  }
  // An order in which tiles that share spans are neighbours.
  bool comes_before(const QueryTile& a, const QueryTile& b) const {
    if (may_share(a) != may_share(b)) return may_share(a);
    const int32_t shared = shared_spans(a, b);
    if (!may_share(a) || shared == num_whole_spans(b)) return false;
    return shared == num_whole_spans(a) || compare(a, b, shared) < 0;
  }

  // Neighbours that share spans are, but for the ends of a wave, in one wave.
  void add_waves(const std::vector<QueryTile>& split) {
    lists_.waves.push_back({0, static_cast<int64_t>(lists_.parts.size()), 0, 0});
    for (size_t first = 0; first < split.size();) {
      size_t last = first;
      int64_t rows = 0;
      for (; last < split.size(); ++last) {
        const int64_t more = int64_t{split[last].num_rows} * heads_.group * num_spans(split[last]);
        if (last > first && rows + more > rows_of_wave(heads_)) break;
        rows += more;
      }
      if (first > 0) {
        lists_.waves.push_back(
            {static_cast<int64_t>(lists_.parts.size()), 0, static_cast<int64_t>(lists_.merged.size()), 0});
      }
      lists_.partial_rows =
          std::max(lists_.partial_rows, add_wave({split.begin() + static_cast<std::ptrdiff_t>(first),
                                                  split.begin() + static_cast<std::ptrdiff_t>(last)}));
      PartWave& wave = lists_.waves.back();
      wave.num_parts = static_cast<int64_t>(lists_.parts.size()) - wave.first_part;
      wave.num_merged = static_cast<int64_t>(lists_.merged.size()) - wave.first_merged;
      first = last;
    }
  }

  // Returns the rows of partial results.
  int64_t add_wave(const std::vector<QueryTile>& tiles) {
    std::vector<int32_t> first_starts, shared(1, 0);  // spans that a tile shares with the one before it
    int32_t most_spans = 0, partial = 0;
    for (size_t i = 0; i < tiles.size(); ++i) {
      const QueryTile& tile = tiles[i];
      first_starts.push_back(static_cast<int32_t>(tables_.size()));
      tables_.resize(tables_.size() + static_cast<size_t>(num_spans(tile)));
      for (int32_t p = 0; p < tile.num_rows; ++p)
        lists_.merged.push_back({tile.row + p, p * heads_.group, first_starts.back(), num_spans(tile)});
      if (i > 0) shared.push_back(shared_spans(tiles[i - 1], tile));
      most_spans = std::max(most_spans, num_spans(tile));
    }
    for (int32_t span = 0; span < most_spans; ++span) {
      for (size_t first = 0, last; first < tiles.size(); first = last) {
        last = first + 1;
        if (span >= num_spans(tiles[first])) continue;
        int32_t positions = tiles[first].num_rows;
        while (last < tiles.size() && shared[last] > span &&
               (positions + tiles[last].num_rows) * heads_.group <= kTileRows) {
          positions += tiles[last++].num_rows;
        }
        add_part(tiles, first, last, span, partial);
        for (size_t i = first; i < last; ++i) {
          tables_[static_cast<size_t>(first_starts[i] + span)] = partial;
          partial += tiles[i].num_rows * heads_.group;
        }
      }
    }
    return partial;
  }

  // One span of tiles [first, last), which have its blocks in common.
  void add_part(const std::vector<QueryTile>& tiles, size_t first, size_t last, int32_t span, int32_t partial) {
    const QueryTile& tile = tiles[first];
    QueryPart part{tile.row,         tile.num_rows, tile.position, tile.table, tile.length,
                   span * kSpanKeys, end_of(tile),  partial,       -1};
    part.end = std::min(part.end, part.first + kSpanKeys);
    if (last > first + 1) {
      part.members = static_cast<int32_t>(tables_.size());
      part.position = part.end - 1;
      for (size_t i = first; i < last; ++i)
        for (int32_t p = 0; p < tiles[i].num_rows; ++p) tables_.push_back(tiles[i].row + p);
      part.num_rows = static_cast<int32_t>(tables_.size()) - part.members;
    }
    lists_.parts.push_back(part);
  }

  const Heads& heads_;
  std::vector<int32_t>& tables_;
  HostParts lists_;
};

}  // namespace

HostParts list_query_parts(const Heads& heads, const std::vector<QueryTile>& tiles, std::vector<int32_t>& tables,
                           Splitting splitting) {
  return Lister(heads, tables).list(tiles, splitting);
}

bool pad_parts(HostParts& parts, int64_t num_rows) {
  if (num_rows == 0 || parts.waves.size() > 1) return false;
  PartWave& wave = parts.waves.front();
  wave.num_parts = recorded_rows(wave.num_parts);
  if (wave.num_merged > 0) wave.num_merged = num_rows;
  parts.parts.resize(static_cast<size_t>(wave.num_parts));
  parts.merged.resize(static_cast<size_t>(wave.num_merged));
  return true;
}

int64_t most_partial_rows(const Heads& heads, int64_t rows, int64_t max_context) {
  if (max_context <= kSpanKeys) return 0;
  const int64_t spans = ceil_div<int64_t>(max_context, kSpanKeys);
  const int64_t tile = std::max(kTileRows, heads.group) * spans;
  return std::min(std::max(rows_of_wave(heads), tile), rows * heads.group * spans);
}

DeviceLimits device_limits() {
#if defined(WIDESEEK_CUDA_EMULATION)
  return {132, 227 * 1024};
#else
  int device = 0, multiprocessors = 0, shared_bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  return {multiprocessors, shared_bytes};
#endif
}

}  // namespace wideseek::cuda
