// Guesses how a sequence goes on from how it went on before: agents copy names, numbers and lines of tables from what
// they have read (prompt look-up decoding). Owns the index of one sequence's own tokens; knows no model.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace wideseek {

class PromptLookup {
 public:
  // Up to `count` tokens that followed the latest earlier occurrence of the sequence's last tokens; empty if there is
  // none. token_ids only grows from call to call.
  std::vector<int32_t> propose(const std::vector<int32_t>& token_ids, int64_t count);
  // How many tokens are worth proposing: as many again while all are right, fewer after a wrong one.
  int64_t num_worth() const { return num_worth_; }
  void tell(int64_t num_proposed, int64_t num_right);

 private:
  static constexpr int64_t kMatch = 3;  // tokens
  static constexpr int64_t kMostWorth = 64;

  std::unordered_map<uint64_t, int64_t> ends_;  // of kMatch tokens, the latest but for the last -> position behind them
  int64_t num_indexed_ = kMatch;                // every occurrence that ends before this position is listed
  int64_t num_worth_ = 4;
};

}  // namespace wideseek
