// Continuous batching: which tokens of which sequences run in the next step. Owns no tensor and samples nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_set>
#include <vector>

#include "infer/block_manager.h"

namespace wideseek {

// One request inside the scheduler.
struct Sequence {
  uint64_t id;                     // arrival order; a smaller id goes first
  std::vector<int32_t> token_ids;  // prompt, then sampled tokens
  int64_t num_prompt_tokens;
  int64_t max_tokens;  // prompt + sampled

  int64_t num_computed = 0;          // leading tokens whose keys and values are in the cache
  int64_t num_cached_tokens = 0;     // prompt tokens that were found there instead of computed
  bool preempted = false;            // lost its blocks at least once
  std::vector<int32_t> block_table;  // covers exactly [0, num_computed) between steps
  std::vector<uint64_t> hashes;      // of the full blocks of token_ids
  int64_t num_published = 0;         // leading blocks offered to the prefix cache
  std::vector<int32_t> draft;        // guess of the tokens after the last; computed with it if there is room

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_sampled() const { return num_tokens() - num_prompt_tokens; }
  int64_t num_remaining() const { return num_tokens() - num_computed; }
};

// Rows [num_computed, num_computed + num_rows) of one sequence, then rows of the first num_drafts tokens of its draft.
struct ScheduledSlice {
  Sequence* sequence;
  int64_t num_rows;
  int64_t num_drafts = 0;
  // True if the slice reaches the sequence's end, so that its next token can be sampled, and one after each draft.
  bool wants_logits() const { return sequence->num_computed + num_rows == sequence->num_tokens(); }
};

// Order: decode rows first, then running prefills, then waiting requests, each by arrival; drafts take what is left.
// When blocks run out, the youngest running sequence gives its blocks back and is computed again later; an older one
// never yields to a younger one, so the oldest always advances and every request ends.
class Scheduler {
 public:
  // max_batch_tokens: rows of one step, and therefore also the number of running sequences.
  Scheduler(BlockManager& blocks, int64_t max_batch_tokens);

  // Throws kInvalidArgument for an empty prompt or no room to sample, kOutOfMemory if the request can never fit.
  Sequence& add(std::vector<int32_t> prompt_ids, int64_t max_new_tokens);
  // Finished or cancelled; not between plan_step and complete_step. Full blocks stay in the prefix cache.
  void remove(uint64_t id);

  bool empty() const { return sequences_.empty(); }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t num_preemptions() const { return num_preemptions_; }

  // Chooses the next step's rows and gives them blocks; never empty while there are sequences.
  const std::vector<ScheduledSlice>& plan_step();
  // The planned rows' keys and values are written. A slice that wanted logits needs append() or remove() next.
  void complete_step();
  void append(Sequence& sequence, int32_t token);
  // After a step with drafts: the first `num_right` of them were appended, and their keys and values stay.
  void keep_drafts(Sequence& sequence, int64_t num_right);

 private:
  int64_t blocks_for(int64_t num_tokens) const {
    return (num_tokens + blocks_.block_tokens() - 1) / blocks_.block_tokens();
  }
  int64_t reserve_rows(Sequence& sequence, int64_t num_rows);
  void extend_cached_prefix(Sequence& sequence);
  bool is_being_computed(const Sequence& sequence) const;
  void plan_decode(Sequence& sequence);
  void plan_prefill(Sequence& sequence);
  void admit_waiting();
  void plan_drafts();
  void publish_blocks(Sequence& sequence);
  bool preempt_younger_than(const Sequence& sequence);
  void release_blocks(Sequence& sequence);
  void extend_hashes(Sequence& sequence) const;

  BlockManager& blocks_;
  int64_t max_batch_tokens_;
  uint64_t next_id_ = 1;
  int64_t num_preemptions_ = 0;
  std::map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  std::map<uint64_t, Sequence*> running_;
  std::map<uint64_t, Sequence*> waiting_;

  // The step being planned.
  std::vector<ScheduledSlice> plan_;
  int64_t rows_left_ = 0;
  bool preempted_now_ = false;
  std::unordered_set<uint64_t> computed_now_;  // chain hashes of the blocks that this step fills
};

}  // namespace wideseek
