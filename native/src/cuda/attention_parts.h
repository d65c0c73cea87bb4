// How the forward pass of the tensor-core kernels is cut into thread blocks.
//
// The order of reduction is fixed: keys are taken span by span, a span being kSpanKeys positions from a multiple of it.
// Within a span the softmax runs; the results of spans are merged one after the other in order of position
// (attention_span.h). A thread block either takes a query tile with all of its spans and merges as it goes, or one span
// of it, whose result goes to memory, where all spans of a row are merged in the same order by the same instructions:
// no bit depends on the choice. The second way fills the device when tiles are few and sequences long. It also lets a
// block take rows of several sequences that have the blocks of a span in common, so that these are read once.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/attention_plan.h"

namespace wideseek::cuda {

// What a thread block takes of each kv head: rows at consecutive positions, or rows that attend to all of its keys. No
// rows: nothing, in plans that are padded.
struct QueryPart {
  int32_t row, num_rows, position;  // as in a QueryTile; the position is end - 1 if all rows attend to all keys
  int32_t table, length;            // as in a QueryTile
  int32_t first, end;               // keys
  int32_t partial;                  // place of its first packed row among the partial results; -1 = none, writes `out`
  int32_t members;                  // where its rows are listed in `tables`; -1 = they are consecutive
};

// A row of the batch whose spans are merged. Packed row r of its kv head has its partial result of span s at
// tables[first_start + s] + offset + r. No spans: nothing, as above.
struct MergedRow {
  int32_t row, offset;
  int32_t first_start, num_spans;
};

// What is computed before partial results are overwritten.
struct PartWave {
  int64_t first_part, num_parts, first_merged, num_merged;
};

struct HostParts {
  std::vector<QueryPart> parts;
  std::vector<MergedRow> merged;
  std::vector<PartWave> waves;
  int64_t partial_rows = 0;    // for each kv head
  bool merges_inside = false;  // if a part has several spans
};

// The lists on the device.
struct QueryParts {
  const QueryPart* parts = nullptr;
  const MergedRow* merged = nullptr;
  std::vector<PartWave> waves;
  int64_t partial_rows = 0;
  bool merges_inside = false;
};

struct DeviceLimits {
  int64_t multiprocessors;
  int64_t shared_bytes;  // that a block may have
};
DeviceLimits device_limits();

// Tiles must not cross spans: no row of one may have keys in fewer spans than another. Appends to `tables`.
HostParts list_query_parts(const Heads& heads, const std::vector<QueryTile>& tiles, std::vector<int32_t>& tables,
                           Splitting splitting);

// Rounds the numbers of parts and merged rows up, so that few launches serve all batches of num_rows rows. False, and
// nothing done, for several waves: they have enough to do to be launched one by one.
bool pad_parts(HostParts& parts, int64_t num_rows);

// Most rows of partial results that `rows` rows at contexts of up to `max_context` have at a time, for each kv head.
int64_t most_partial_rows(const Heads& heads, int64_t rows, int64_t max_context);

}  // namespace wideseek::cuda
