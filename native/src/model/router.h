// Which experts each token goes to, and with which share. On the host: the numbers are few, and the products that
// follow have to know how many rows they take.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace wideseek {

// Every token gives one row to each of its k experts. Rows are sorted by expert, then by token.
struct Routing {
  std::vector<int64_t> first_rows;  // [E+1]; the rows of expert e are [first_rows[e], first_rows[e+1])
  std::vector<int32_t> row_tokens;  // [T*k] token of each row
  std::vector<int32_t> token_rows;  // [T,k] rows of each token, by ascending expert
  std::vector<float> shares;        // [T,k] in the same order
};

// The k largest of each token's logits [T,E], of equal ones those of lower index; shares are their probabilities under
// softmax over all E. A token's experts and shares depend on its own logits alone.
Routing route(const float* logits, int64_t T, const MoeConfig& moe);

}  // namespace wideseek
