// The scheduler with a fake model: every request ends, no block leaks, and a sequence only ever attends to its own
// tokens.
#include "infer/scheduler.h"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "base/error.h"
#include "test/check.h"

namespace {

using namespace wideseek;

constexpr int64_t kBlock = 4;

// Stands for keys and values: what was written to each slot of each block. The next token is a function of everything
// the sequence attends to, so a wrong block, a stale block or a skipped row changes the result.
class FakeModel {
 public:
  explicit FakeModel(int64_t num_blocks) : slots_(static_cast<size_t>(num_blocks * kBlock), -1) {}

  void write(const ScheduledSlice& slice) {
    const Sequence& sequence = *slice.sequence;
    for (int64_t row = 0; row < slice.num_rows + slice.num_drafts; ++row) {
      const int64_t position = sequence.num_computed + row;
      slots_[slot(sequence, position)] =
          row < slice.num_rows ? sequence.token_ids[position] : sequence.draft[row - slice.num_rows];
    }
  }

  int32_t next_token(const Sequence& sequence) const {
    std::vector<int32_t> seen;
    for (int64_t position = 0; position < sequence.num_tokens(); ++position) {
      seen.push_back(slots_[slot(sequence, position)]);
    }
    return next_token(seen);
  }
  static int32_t next_token(const std::vector<int32_t>& seen) {
    return static_cast<int32_t>(chain_hash(1, seen.data(), static_cast<int64_t>(seen.size())) % 3);
  }

 private:
  static size_t slot(const Sequence& sequence, int64_t position) {
    return static_cast<size_t>(sequence.block_table.at(position / kBlock) * kBlock + position % kBlock);
  }
  std::vector<int32_t> slots_;
};

struct Request {
  std::vector<int32_t> prompt;
  int64_t max_new_tokens;
};

std::vector<int32_t> run_alone(const Request& request) {
  std::vector<int32_t> tokens = request.prompt;
  for (int64_t i = 0; i < request.max_new_tokens; ++i) tokens.push_back(FakeModel::next_token(tokens));
  return tokens;
}

Request random_request(std::mt19937& random, int64_t max_tokens) {
  const int64_t total = 2 + static_cast<int64_t>(random() % static_cast<uint32_t>(max_tokens));
  const int64_t num_new = 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(total - 1));
  Request request{{}, num_new};
  // Few distinct prefixes, so that sharing is common.
  for (int64_t i = 0; i < total - num_new; ++i) request.prompt.push_back(i % 5 == 0 ? random() % 2 : 0);
  return request;
}

}  // namespace

TEST(scheduler_rejects_what_can_never_fit) {
  BlockManager blocks(2, kBlock);
  Scheduler scheduler(blocks, 16);
  CHECK_THROWS(scheduler.add({}, 1));
  CHECK_THROWS(scheduler.add({1}, 0));
  CHECK_THROWS(scheduler.add({1, 2, 3, 4, 5}, 5));  // nine positions to keep
  CHECK(scheduler.empty());
  scheduler.add({1, 2, 3, 4, 5}, 4);  // eight
  CHECK(!scheduler.empty());
}

TEST(scheduler_computes_a_shared_prompt_once) {
  BlockManager blocks(64, kBlock);
  Scheduler scheduler(blocks, 64);
  for (int sample = 0; sample < 8; ++sample) scheduler.add(std::vector<int32_t>(18, 5), 4);
  // The first sample computes its 18 rows; the others wait for its 16 shared tokens and then compute 2 rows each.
  CHECK(scheduler.plan_step().size() == 1);
  scheduler.complete_step();
  const auto& plan = scheduler.plan_step();
  CHECK(plan.size() == 7 || plan.size() == 8);
  for (const ScheduledSlice& slice : plan) {
    if (slice.sequence->id == 1) continue;
    CHECK(slice.num_rows == 2);
    CHECK(slice.sequence->num_cached_tokens == 16);
  }
  scheduler.complete_step();
  CHECK(blocks.num_referenced() == 4 + 8);
}

TEST(scheduler_puts_decode_rows_first_and_cuts_prompts) {
  BlockManager blocks(64, kBlock);
  Scheduler scheduler(blocks, 10);
  Sequence& first = scheduler.add({1, 2, 3}, 8);
  scheduler.plan_step();
  scheduler.complete_step();
  scheduler.append(first, 9);
  scheduler.add(std::vector<int32_t>(30, 7), 2);
  const auto& plan = scheduler.plan_step();
  CHECK(plan.size() == 2);
  CHECK(plan[0].sequence == &first && plan[0].num_rows == 1 && plan[0].wants_logits());
  CHECK(plan[1].num_rows == 8 && !plan[1].wants_logits());  // 9 rows are left; cut at a block's end
  scheduler.complete_step();
}

TEST(scheduler_does_not_starve_a_large_request) {
  BlockManager blocks(8, kBlock);
  Scheduler scheduler(blocks, 64);
  int32_t distinct = 100;
  for (int i = 0; i < 4; ++i) scheduler.add({distinct++, 1, 2, 3, 4}, 1 + i);  // end one by one
  const uint64_t large = scheduler.add(std::vector<int32_t>(30, 9), 2).id;
  bool finished = false;
  for (int step = 0; step < 40 && !finished; ++step) {
    // Small requests never stop coming, and each would fit where the large one does not.
    scheduler.add({distinct++, 1, 2, 3, 4}, 3);
    std::vector<Sequence*> sampling;
    for (const ScheduledSlice& slice : scheduler.plan_step()) {
      if (slice.wants_logits()) sampling.push_back(slice.sequence);
    }
    scheduler.complete_step();
    for (Sequence* sequence : sampling) {
      scheduler.append(*sequence, 7);
      if (sequence->num_tokens() < sequence->max_tokens) continue;
      finished = finished || sequence->id == large;
      scheduler.remove(sequence->id);
    }
  }
  CHECK(finished);
}

// Random arrivals, cancellations, cache sizes and step budgets, against running every request alone.
TEST(scheduler_random_schedules) {
  std::mt19937 random(11);
  int64_t num_preemptions = 0;
  int64_t num_cached = 0;
  int64_t num_right_drafts = 0, num_wrong_drafts = 0;
  for (int round = 0; round < 100000; ++round) {
    const int64_t num_blocks = 1 + random() % 20;
    BlockManager blocks(num_blocks, kBlock);
    Scheduler scheduler(blocks, 1 + random() % 24);
    FakeModel model(num_blocks);
    std::map<uint64_t, Request> live;
    std::map<uint64_t, Sequence*> sequences;
    int to_submit = 1 + static_cast<int>(random() % 16);
    int steps = 0;
    while (to_submit > 0 || !scheduler.empty()) {
      while (to_submit > 0 && (scheduler.empty() || random() % 3 == 0)) {
        Request request = random_request(random, num_blocks * kBlock);
        if (request.prompt.empty()) request.prompt.push_back(1);
        if (static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens - 1 > num_blocks * kBlock) continue;
        Sequence& sequence = scheduler.add(request.prompt, request.max_new_tokens);
        sequences.emplace(sequence.id, &sequence);
        live.emplace(sequence.id, std::move(request));
        --to_submit;
      }
      if (random() % 40 == 0) {
        const auto victim = std::next(live.begin(), static_cast<int64_t>(random() % live.size()));
        scheduler.remove(victim->first);
        sequences.erase(victim->first);
        live.erase(victim);
        if (scheduler.empty()) continue;
      }
      // The oldest one that has begun: it must advance in every step.
      Sequence* oldest = nullptr;
      for (const auto& [id, sequence] : sequences) {
        if (oldest == nullptr && sequence->num_computed > 0) oldest = sequence;
      }
      const std::vector<ScheduledSlice> plan = scheduler.plan_step();
      CHECK(oldest == nullptr || std::any_of(plan.begin(), plan.end(),
                                             [&](const ScheduledSlice& slice) { return slice.sequence == oldest; }));
      std::vector<ScheduledSlice> sampling;
      for (const ScheduledSlice& slice : plan) {
        CHECK(slice.num_rows > 0);
        model.write(slice);
        if (slice.wants_logits()) sampling.push_back(slice);
      }
      scheduler.complete_step();
      for (const ScheduledSlice& slice : sampling) {
        Sequence* sequence = slice.sequence;
        int64_t num_right = 0;
        for (;; ++num_right) {
          const int32_t token = model.next_token(*sequence);
          scheduler.append(*sequence, token);
          if (num_right == slice.num_drafts || token != sequence->draft[num_right]) break;
        }
        num_right_drafts += num_right;
        num_wrong_drafts += slice.num_drafts - num_right;
        CHECK(sequence->num_tokens() <= sequence->max_tokens);
        if (sequence->num_tokens() < sequence->max_tokens) {
          scheduler.keep_drafts(*sequence, num_right);
          // Guesses of one of the model's three tokens: a third of them is right.
          for (auto n = random() % 4; n > 0; --n) sequence->draft.push_back(static_cast<int32_t>(random() % 3));
          continue;
        }
        const auto request = live.find(sequence->id);
        CHECK(sequence->token_ids == run_alone(request->second));
        CHECK(sequence->num_cached_tokens < sequence->num_prompt_tokens);
        num_cached += sequence->num_cached_tokens;
        live.erase(request);
        sequences.erase(sequence->id);
        scheduler.remove(sequence->id);
      }
      blocks.check_invariants();
      if (++steps > 20000) {
        CHECK(!"a request does not end");
        return;
      }
    }
    CHECK(live.empty());
    CHECK(blocks.num_referenced() == 0);
    num_preemptions += scheduler.num_preemptions();
  }
  // The schedules did exercise what they are for.
  CHECK(num_preemptions > 1000);
  CHECK(num_cached > 1000);
  CHECK(num_right_drafts > 1000 && num_wrong_drafts > 1000);
}
