// Sorts targets by the row that predicts them.
#include "train/target_plan.h"

#include <algorithm>

namespace wideseek {

TargetPlan plan_targets(const PackedBatch& batch, const PrefixForest& forest, const std::vector<bool>& is_target,
                        int64_t rows_per_chunk) {
  TargetPlan plan;
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    if (is_target[t]) plan.tokens.push_back(t);
  }
  const auto row_of = [&](int64_t t) { return forest.rows[t - 1]; };
  std::stable_sort(plan.tokens.begin(), plan.tokens.end(), [&](int64_t a, int64_t b) { return row_of(a) < row_of(b); });
  for (const int64_t t : plan.tokens) {
    if (plan.logit_rows.empty() || plan.logit_rows.back() != row_of(t)) {
      const auto row = static_cast<int64_t>(plan.logit_rows.size());
      if (row % rows_per_chunk == 0) {
        plan.chunks.push_back({row, 0, static_cast<int64_t>(plan.token_ids.size()), 0});
      }
      plan.logit_rows.push_back(row_of(t));
      ++plan.chunks.back().num_rows;
    }
    plan.chunk_rows.push_back(static_cast<int32_t>(plan.chunks.back().num_rows - 1));
    plan.token_ids.push_back(batch.token_ids[t]);
    ++plan.chunks.back().num_targets;
  }
  return plan;
}

}  // namespace wideseek
