#include "infer/prompt_lookup.h"

#include <algorithm>

namespace wideseek {
namespace {

// Vocabularies have fewer than 2^21 tokens; in a larger one a wrong guess would cost time and nothing else.
uint64_t key_of(const int32_t* tokens) {
  return static_cast<uint64_t>(tokens[0]) << 42 ^ static_cast<uint64_t>(tokens[1]) << 21 ^
         static_cast<uint64_t>(tokens[2]);
}

}  // namespace

std::vector<int32_t> PromptLookup::propose(const std::vector<int32_t>& token_ids, int64_t count) {
  const auto size = static_cast<int64_t>(token_ids.size());
  for (; num_indexed_ < size; ++num_indexed_) ends_[key_of(token_ids.data() + num_indexed_ - kMatch)] = num_indexed_;
  if (size < kMatch || count <= 0) return {};
  const auto found = ends_.find(key_of(token_ids.data() + size - kMatch));
  if (found == ends_.end()) return {};
  const auto first = token_ids.begin() + found->second;
  return {first, first + std::min(count, size - found->second)};
}

void PromptLookup::tell(int64_t num_proposed, int64_t num_right) {
  num_worth_ = num_right == num_proposed ? std::min(kMostWorth, 2 * num_worth_) : num_right + 1;
}

}  // namespace wideseek
