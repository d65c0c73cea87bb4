// What a packed batch predicts, in order of the row that predicts it, cut into chunks of LM-head rows.
#pragma once

#include <cstdint>
#include <vector>

#include "train/batch.h"
#include "train/prefix_forest.h"

namespace wideseek {

struct TargetPlan {
  std::vector<int64_t> tokens;      // target -> index in the batch
  std::vector<int32_t> token_ids;   // target -> predicted token id
  std::vector<int32_t> chunk_rows;  // target -> row within its chunk
  std::vector<int32_t> logit_rows;  // distinct rows of the batch that predict something
  struct Chunk {
    int64_t first_row, num_rows;  // of logit_rows
    int64_t first_target, num_targets;
  };
  std::vector<Chunk> chunks;
};

// is_target [T]: the tokens to predict, none of them the first of its sequence.
TargetPlan plan_targets(const PackedBatch& batch, const PrefixForest& forest, const std::vector<bool>& is_target,
                        int64_t rows_per_chunk);

}  // namespace wideseek
