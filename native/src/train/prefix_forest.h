// Finds the prefixes that sequences of a packed batch share, so that their rows are computed once.
// Sharing is by whole KV blocks: causal attention makes a block's rows a function of the tokens up to its end alone,
// so equal paths of blocks have equal activations, and their gradients add up.
#pragma once

#include <cstdint>
#include <vector>

#include "backend.h"

namespace wideseek {

struct PrefixForest {
  int64_t num_blocks = 0;
  std::vector<int32_t> token_ids;     // of each distinct row
  std::vector<int32_t> positions;     // of each distinct row
  std::vector<SequenceSlice> slices;  // one per sequence that has rows of its own
  std::vector<int32_t> rows;          // of each token of the batch; -1 for tokens past a sequence's length
  int64_t num_rows() const { return static_cast<int64_t>(token_ids.size()); }

 private:
  friend PrefixForest build_prefix_forest(const int32_t*, const int32_t*, const int64_t*, int64_t, bool);
  std::vector<std::vector<int32_t>> block_tables;  // the slices point into these
};

// Sequence s is token_ids[cu_seqlens[s] ... + lengths[s]), with lengths[s] at most its packed length. Without `share`
// every sequence is a tree of its own.
PrefixForest build_prefix_forest(const int32_t* token_ids, const int32_t* cu_seqlens, const int64_t* lengths,
                                 int64_t num_sequences, bool share = true);

}  // namespace wideseek
