// One step: plan, forward, publish blocks, sample, finish.
#include "infer/generator.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/stopwatch.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "generate";

int64_t blocks_for(int64_t tokens) { return (tokens + KvCache::kBlockTokens - 1) / KvCache::kBlockTokens; }

}  // namespace

Generator::Generator(Backend& backend, Model& model, const GeneratorOptions& options)
    : backend_(backend),
      model_(model),
      options_(options),
      blocks_(blocks_for(options.kv_cache_tokens), KvCache::kBlockTokens),
      cache_(backend, model.config(), blocks_for(options.kv_cache_tokens)),
      scheduler_(blocks_, options.max_batch_tokens) {
  model_.reserve_inference(options.max_batch_tokens, options.max_context_tokens);
}

void Generator::add(uint64_t key, GenerateRequest request) {
  validate(request.sampling);
  const int64_t vocab_size = model_.config().vocab_size;
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    const int32_t token = request.prompt_ids[i];
    WS_CHECK(token >= 0 && token < vocab_size, kInvalidArgument, kOp,
             "promptIds[" + std::to_string(i) + "] is " + std::to_string(token) + ", but the vocabulary has " +
                 std::to_string(vocab_size) + " tokens");
  }
  const int64_t num_prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  // Compared without a sum that could overflow.
  WS_CHECK(request.max_new_tokens <= options_.max_context_tokens - num_prompt_tokens, kInvalidArgument, kOp,
           std::to_string(num_prompt_tokens) + " prompt + " + std::to_string(request.max_new_tokens) +
               " new tokens, but maxContextTokens is " + std::to_string(options_.max_context_tokens));
  const uint64_t id = scheduler_.add(std::move(request.prompt_ids), request.max_new_tokens).id;
  keys_.emplace(id, key);
  entries_.emplace(key, Entry{id, std::move(request), {}, {}});
}

bool Generator::cancel(uint64_t key, std::exception_ptr reason) {
  const auto entry = entries_.find(key);
  if (entry == entries_.end()) return false;
  fail(entry->second.sequence_id, std::move(reason));
  return true;
}

void Generator::cancel_all(std::exception_ptr reason) {
  while (!entries_.empty()) fail(entries_.begin()->second.sequence_id, reason);
}

void Generator::step(uint64_t policy_version) {
  const std::vector<ScheduledSlice>& plan = scheduler_.plan_step();
  std::vector<ScheduledSlice> sampling;
  std::vector<uint64_t> planned;
  for (const ScheduledSlice& slice : plan) {
    if (slice.wants_logits()) sampling.push_back(slice);
    planned.push_back(slice.sequence->id);
  }
  try {
    const Stopwatch watch(stats_.forward_seconds);
    forward(plan);
  } catch (...) {
    for (const uint64_t id : planned) fail(id, std::current_exception());
    throw;
  }
  ++stats_.num_steps;
  stats_.num_computed_tokens += static_cast<int64_t>(token_ids_.size());
  scheduler_.complete_step();
  const SampledToken* tokens = tokens_.data();
  not_finite_.clear();
  for (const ScheduledSlice& slice : sampling) {
    const uint64_t id = slice.sequence->id;
    try {
      append(*slice.sequence, tokens, slice.num_drafts, policy_version);
    } catch (...) {
      fail(id, std::current_exception());
    }
    tokens += 1 + slice.num_drafts;
  }
}

void Generator::forward(const std::vector<ScheduledSlice>& plan) {
  bool is_decode = true;
  token_ids_.clear();
  slices_.clear();
  logit_rows_.clear();
  draws_.clear();
  for (const ScheduledSlice& slice : plan) {
    const Sequence& sequence = *slice.sequence;
    const int64_t first_row = static_cast<int64_t>(token_ids_.size());
    const auto first_token = sequence.token_ids.begin() + sequence.num_computed;
    token_ids_.insert(token_ids_.end(), first_token, first_token + slice.num_rows);
    token_ids_.insert(token_ids_.end(), sequence.draft.begin(), sequence.draft.begin() + slice.num_drafts);
    slices_.push_back(
        {first_row, slice.num_rows + slice.num_drafts, sequence.num_computed, sequence.block_table.data()});
    is_decode = is_decode && slice.num_rows == 1 && slice.wants_logits();
    if (!slice.wants_logits()) continue;
    const GenerateRequest& request = entries_.at(keys_.at(sequence.id)).request;
    for (int64_t draft = 0; draft <= slice.num_drafts; ++draft) {
      logit_rows_.push_back(static_cast<int32_t>(first_row + slice.num_rows - 1 + draft));
      draws_.push_back({request.sampling,
                        {sequence.token_ids.data(), sequence.num_tokens()},
                        request.seed,
                        static_cast<uint64_t>(sequence.num_sampled() + draft)});
    }
  }
  tokens_.resize(draws_.size());
  const InferenceBatch batch{token_ids_.data(),  static_cast<int64_t>(token_ids_.size()),
                             slices_.data(),     static_cast<int64_t>(slices_.size()),
                             logit_rows_.data(), static_cast<int64_t>(logit_rows_.size()),
                             is_decode};
  model_.forward(batch, cache_, [&](int64_t first, int64_t count, const float* logits) {
    backend_.sample(tokens_.data() + first, logits, draws_.data() + first, count, model_.config().vocab_size);
  });
}

void Generator::append(Sequence& sequence, const SampledToken* tokens, int64_t num_drafts, uint64_t policy_version) {
  Entry& entry = entries_.at(keys_.at(sequence.id));
  const GenerateRequest& request = entry.request;
  const std::vector<int32_t>& stops = request.stop_token_ids;
  stats_.num_draft_tokens += num_drafts;
  int64_t num_right = 0;
  for (;; ++num_right) {
    const SampledToken& token = tokens[num_right];
    if (token.token_id == SampledToken::kNotFinite) throw_not_finite(sequence);
    scheduler_.append(sequence, token.token_id);
    entry.logprobs.push_back(token.logprob);
    ++stats_.num_generated_tokens;
    if (request.on_token) request.on_token(token.token_id);
    const bool stopped = std::find(stops.begin(), stops.end(), token.token_id) != stops.end();
    if (stopped || sequence.num_tokens() == sequence.max_tokens) {
      finish(sequence, stopped ? FinishReason::kStop : FinishReason::kLength, policy_version);
      return;
    }
    if (num_right == num_drafts || token.token_id != sequence.draft[static_cast<size_t>(num_right)]) break;
    ++stats_.num_right_drafts;
  }
  scheduler_.keep_drafts(sequence, num_right);
  // A penalty on tokens seen before would have to see the draft.
  if (options_.max_draft_tokens == 0 || request.sampling.repetition_penalty != 1) return;
  if (num_drafts > 0) entry.lookup.tell(num_drafts, num_right);
  sequence.draft =
      entry.lookup.propose(sequence.token_ids, std::min(entry.lookup.num_worth(), options_.max_draft_tokens));
}

void Generator::throw_not_finite(const Sequence& sequence) {
  // Once a step: if weights are at fault, all of its sequences fail.
  if (not_finite_.empty()) not_finite_ = model_.find_not_finite(sequence.token_ids, sequence.block_table, cache_);
  throw Error(ErrorCode::kInternal, kOp,
              "the model gave a logit that is not finite: " + not_finite_ + "; check the weights");
}

void Generator::finish(Sequence& sequence, FinishReason reason, uint64_t policy_version) {
  Completion completion{{sequence.token_ids.begin() + sequence.num_prompt_tokens, sequence.token_ids.end()},
                        std::move(entries_.at(keys_.at(sequence.id)).logprobs),
                        reason,
                        policy_version,
                        sequence.num_cached_tokens};
  stats_.num_cached_tokens += sequence.num_cached_tokens;
  take(sequence.id).request.on_done(std::move(completion));
}

Generator::Entry Generator::take(uint64_t sequence_id) {
  const auto key = keys_.find(sequence_id);
  const auto entry = entries_.find(key->second);
  Entry taken = std::move(entry->second);
  scheduler_.remove(sequence_id);
  entries_.erase(entry);
  keys_.erase(key);
  return taken;
}

void Generator::fail(uint64_t sequence_id, std::exception_ptr reason) {
  if (keys_.contains(sequence_id)) take(sequence_id).request.on_error(std::move(reason));
}

int64_t Generator::cache_bytes(Model& model, int64_t tokens) {
  const ModelConfig& config = model.config();
  return tokens * config.num_layers * 2 * config.num_kv_heads * config.head_dim * dtype_bytes(model.activation_dtype());
}

std::byte* Generator::lend_cache(int64_t bytes) {
  WS_CHECK(idle(), kInternal, kOp, "the KV cache is in use");
  blocks_.clear_cache();
  return cache_.lend(bytes);
}

GeneratorStats Generator::stats() const {
  GeneratorStats stats = stats_;
  stats.num_preemptions = scheduler_.num_preemptions();
  stats.num_running = scheduler_.num_running();
  stats.num_waiting = scheduler_.num_waiting();
  stats.num_blocks = blocks_.num_blocks();
  stats.num_blocks_used = blocks_.num_referenced();
  stats.num_blocks_cached = blocks_.num_cached();
  stats.max_blocks_used = blocks_.max_referenced();
  return stats;
}

}  // namespace wideseek
