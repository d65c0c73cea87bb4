// The order of work; see the header for the rules.
#include "infer/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace wideseek {

Scheduler::Scheduler(BlockManager& blocks, int64_t max_batch_tokens)
    : blocks_(blocks), max_batch_tokens_(max_batch_tokens) {
  WS_CHECK(max_batch_tokens > 0, kInvalidArgument, "scheduler", "maxBatchTokens must be at least 1");
}

Sequence& Scheduler::add(std::vector<int32_t> prompt_ids, int64_t max_new_tokens) {
  WS_CHECK(!prompt_ids.empty(), kInvalidArgument, "generate", "promptIds is empty");
  WS_CHECK(max_new_tokens >= 1, kInvalidArgument, "generate",
           "maxNewTokens must be at least 1, got " + std::to_string(max_new_tokens));
  const int64_t num_prompt_tokens = static_cast<int64_t>(prompt_ids.size());
  // The last sampled token is never fed back, so it needs no room.
  const int64_t num_blocks = blocks_for(num_prompt_tokens + max_new_tokens - 1);
  WS_CHECK(num_blocks <= blocks_.num_blocks(), kOutOfMemory, "generate",
           std::to_string(num_prompt_tokens) + " prompt + " + std::to_string(max_new_tokens) +
               " new tokens can never fit the KV cache of " +
               std::to_string(blocks_.num_blocks() * blocks_.block_tokens()) + " tokens; raise kvCacheTokens");
  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  sequence->num_prompt_tokens = num_prompt_tokens;
  sequence->max_tokens = num_prompt_tokens + max_new_tokens;
  sequence->token_ids = std::move(prompt_ids);
  Sequence& added = *sequence;
  waiting_.emplace(added.id, &added);
  sequences_.emplace(added.id, std::move(sequence));
  return added;
}

void Scheduler::remove(uint64_t id) {
  const auto found = sequences_.find(id);
  WS_CHECK(found != sequences_.end(), kInternal, "scheduler", "no sequence with this id");
  release_blocks(*found->second);
  running_.erase(id);
  waiting_.erase(id);
  sequences_.erase(found);
}

void Scheduler::append(Sequence& sequence, int32_t token) { sequence.token_ids.push_back(token); }

const std::vector<ScheduledSlice>& Scheduler::plan_step() {
  plan_.clear();
  computed_now_.clear();
  rows_left_ = max_batch_tokens_;
  preempted_now_ = false;

  std::vector<Sequence*> decoding;
  std::vector<Sequence*> prefilling;
  for (const auto& [id, sequence] : running_) {
    (sequence->num_remaining() == 1 ? decoding : prefilling).push_back(sequence);
  }
  // A sequence may have been preempted by an earlier one of the same list.
  for (Sequence* sequence : decoding) {
    if (running_.contains(sequence->id)) plan_decode(*sequence);
  }
  for (Sequence* sequence : prefilling) {
    if (running_.contains(sequence->id)) plan_prefill(*sequence);
  }
  // What was just taken away is not handed out again in the same step.
  if (!preempted_now_) admit_waiting();
  plan_drafts();
  WS_CHECK(!plan_.empty() || sequences_.empty(), kInternal, "scheduler", "no sequence can advance");
  return plan_;
}

void Scheduler::complete_step() {
  for (const ScheduledSlice& slice : plan_) {
    slice.sequence->num_computed += slice.num_rows;
    publish_blocks(*slice.sequence);
  }
  plan_.clear();
}

void Scheduler::keep_drafts(Sequence& sequence, int64_t num_right) {
  sequence.num_computed += num_right;
  publish_blocks(sequence);
  blocks_.release(sequence.block_table, blocks_for(sequence.num_computed));
  sequence.draft.clear();
}

void Scheduler::publish_blocks(Sequence& sequence) {
  const int64_t block_tokens = blocks_.block_tokens();
  extend_hashes(sequence);
  for (; (sequence.num_published + 1) * block_tokens <= sequence.num_computed; ++sequence.num_published) {
    const int64_t index = sequence.num_published;
    const int32_t parent = index == 0 ? -1 : sequence.block_table[index - 1];
    sequence.block_table[index] = blocks_.publish(sequence.block_table[index], sequence.hashes[index], parent,
                                                  sequence.token_ids.data() + index * block_tokens);
  }
}

// Gives blocks to as many of the next `num_rows` rows as possible without taking any from another sequence.
int64_t Scheduler::reserve_rows(Sequence& sequence, int64_t num_rows) {
  const int64_t held = static_cast<int64_t>(sequence.block_table.size());
  const int64_t wanted = blocks_for(sequence.num_computed + num_rows) - held;
  const int64_t granted = std::min(wanted, blocks_.num_available());
  blocks_.allocate(granted, sequence.block_table);
  return std::min(num_rows, (held + granted) * blocks_.block_tokens() - sequence.num_computed);
}

void Scheduler::plan_decode(Sequence& sequence) {
  while (reserve_rows(sequence, 1) == 0) {
    // Its turn comes when an older sequence ends, or pre-empts it.
    if (!preempt_younger_than(sequence)) return;
  }
  plan_.push_back({&sequence, 1});
  --rows_left_;
}

void Scheduler::plan_drafts() {
  for (ScheduledSlice& slice : plan_) {
    Sequence& sequence = *slice.sequence;
    if (!slice.wants_logits()) continue;
    // The token after the last draft must be one that may still be sampled.
    const int64_t most = std::min(
        {static_cast<int64_t>(sequence.draft.size()), rows_left_, sequence.max_tokens - sequence.num_tokens() - 1});
    if (most <= 0) continue;
    slice.num_drafts = reserve_rows(sequence, slice.num_rows + most) - slice.num_rows;
    rows_left_ -= slice.num_drafts;
  }
}

void Scheduler::plan_prefill(Sequence& sequence) {
  if (rows_left_ == 0) return;
  extend_cached_prefix(sequence);
  if (is_being_computed(sequence)) return;
  const int64_t block_tokens = blocks_.block_tokens();
  int64_t num_rows = std::min(sequence.num_remaining(), rows_left_);
  if (num_rows < sequence.num_remaining()) {
    // Cut at a block's end, where the next chunk can meet the prefix cache again.
    const int64_t end = (sequence.num_computed + num_rows) / block_tokens * block_tokens;
    if (end > sequence.num_computed) num_rows = end - sequence.num_computed;
  }
  int64_t granted = reserve_rows(sequence, num_rows);
  while (granted == 0) {
    if (!preempt_younger_than(sequence)) return;
    granted = reserve_rows(sequence, num_rows);
  }
  plan_.push_back({&sequence, granted});
  rows_left_ -= granted;
  for (int64_t block = sequence.num_computed / block_tokens;
       (block + 1) * block_tokens <= sequence.num_computed + granted; ++block) {
    computed_now_.insert(sequence.hashes[block]);
  }
}

// First come, first served, except that a request whose next block is being computed by another one lets later
// requests pass: one step later it finds that block in the cache.
void Scheduler::admit_waiting() {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    Sequence& sequence = *next->second;
    if (rows_left_ == 0 || num_running() == max_batch_tokens_) return;
    const int64_t num_cached_before = sequence.num_cached_tokens;
    extend_cached_prefix(sequence);
    const bool held = is_being_computed(sequence);
    const int64_t missing = blocks_for(sequence.num_tokens()) - static_cast<int64_t>(sequence.block_table.size());
    if (held || missing > blocks_.num_available()) {
      release_blocks(sequence);
      sequence.num_cached_tokens = num_cached_before;
      if (!held) return;
      ++next;
      continue;
    }
    running_.emplace(sequence.id, &sequence);
    next = waiting_.erase(next);
    plan_prefill(sequence);
  }
}

void Scheduler::extend_cached_prefix(Sequence& sequence) {
  const int64_t block_tokens = blocks_.block_tokens();
  extend_hashes(sequence);
  // At least one token is always computed: its logits are needed.
  while (sequence.num_computed % block_tokens == 0 && sequence.num_remaining() > block_tokens) {
    const int64_t index = sequence.num_computed / block_tokens;
    const int32_t parent = index == 0 ? -1 : sequence.block_table.back();
    const int32_t block =
        blocks_.find(sequence.hashes[index], parent, sequence.token_ids.data() + sequence.num_computed);
    if (block < 0) return;
    blocks_.add_reference(block);
    sequence.block_table.push_back(block);
    sequence.num_computed += block_tokens;
    sequence.num_published = index + 1;
    if (!sequence.preempted) sequence.num_cached_tokens += block_tokens;
  }
}

bool Scheduler::is_being_computed(const Sequence& sequence) const {
  const int64_t block_tokens = blocks_.block_tokens();
  // The last token must be computed by the sequence itself, so a block that ends with it is of no use.
  if (sequence.num_computed % block_tokens != 0 || sequence.num_remaining() <= block_tokens) return false;
  return computed_now_.contains(sequence.hashes[sequence.num_computed / block_tokens]);
}

bool Scheduler::preempt_younger_than(const Sequence& sequence) {
  const auto youngest = std::prev(running_.end());
  Sequence& victim = *youngest->second;
  if (victim.id == sequence.id) return false;
  for (auto slice = plan_.begin(); slice != plan_.end(); ++slice) {
    if (slice->sequence != &victim) continue;
    rows_left_ += slice->num_rows;
    plan_.erase(slice);
    break;
  }
  running_.erase(youngest);
  waiting_.emplace(victim.id, &victim);
  release_blocks(victim);
  victim.preempted = true;
  preempted_now_ = true;
  ++num_preemptions_;
  return true;
}

void Scheduler::release_blocks(Sequence& sequence) {
  blocks_.release(sequence.block_table);
  sequence.draft.clear();
  sequence.num_computed = 0;
  sequence.num_published = 0;
}

void Scheduler::extend_hashes(Sequence& sequence) const {
  const int64_t block_tokens = blocks_.block_tokens();
  for (int64_t block = static_cast<int64_t>(sequence.hashes.size());
       (block + 1) * block_tokens <= sequence.num_tokens(); ++block) {
    sequence.hashes.push_back(chain_hash(block == 0 ? 0 : sequence.hashes.back(),
                                         sequence.token_ids.data() + block * block_tokens, block_tokens));
  }
}

}  // namespace wideseek
