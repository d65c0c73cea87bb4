// One step: plan, forward, publish blocks, sample, finish.
#include "infer/generator.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

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
  entries_.emplace(key, Entry{id, std::move(request), {}});
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
  std::vector<Sequence*> sampling;
  std::vector<uint64_t> planned;
  for (const ScheduledSlice& slice : plan) {
    if (slice.wants_logits()) sampling.push_back(slice.sequence);
    planned.push_back(slice.sequence->id);
  }
  try {
    forward(plan);
  } catch (...) {
    for (const uint64_t id : planned) fail(id, std::current_exception());
    throw;
  }
  ++stats_.num_steps;
  stats_.num_computed_tokens += static_cast<int64_t>(token_ids_.size());
  scheduler_.complete_step();
  for (size_t row = 0; row < sampling.size(); ++row) {
    const uint64_t id = sampling[row]->id;
    try {
      append(*sampling[row], tokens_[row], policy_version);
    } catch (...) {
      fail(id, std::current_exception());
    }
  }
}

void Generator::forward(const std::vector<ScheduledSlice>& plan) {
  token_ids_.clear();
  slices_.clear();
  logit_rows_.clear();
  draws_.clear();
  for (const ScheduledSlice& slice : plan) {
    const Sequence& sequence = *slice.sequence;
    const int64_t first_row = static_cast<int64_t>(token_ids_.size());
    const auto first_token = sequence.token_ids.begin() + sequence.num_computed;
    token_ids_.insert(token_ids_.end(), first_token, first_token + slice.num_rows);
    slices_.push_back({first_row, slice.num_rows, sequence.num_computed, sequence.block_table.data()});
    if (!slice.wants_logits()) continue;
    const GenerateRequest& request = entries_.at(keys_.at(sequence.id)).request;
    logit_rows_.push_back(static_cast<int32_t>(token_ids_.size()) - 1);
    draws_.push_back({request.sampling,
                      {sequence.token_ids.data(), sequence.num_tokens()},
                      request.seed,
                      static_cast<uint64_t>(sequence.num_sampled())});
  }
  tokens_.resize(draws_.size());
  const InferenceBatch batch{token_ids_.data(),  static_cast<int64_t>(token_ids_.size()),
                             slices_.data(),     static_cast<int64_t>(slices_.size()),
                             logit_rows_.data(), static_cast<int64_t>(logit_rows_.size())};
  model_.forward(batch, cache_, [&](int64_t first, int64_t count, const float* logits) {
    backend_.sample(tokens_.data() + first, logits, draws_.data() + first, count, model_.config().vocab_size);
  });
}

void Generator::append(Sequence& sequence, const SampledToken& token, uint64_t policy_version) {
  WS_CHECK(token.token_id != SampledToken::kNotFinite, kInternal, kOp,
           "the model gave a logit that is not finite; check the weights");
  Entry& entry = entries_.at(keys_.at(sequence.id));
  const GenerateRequest& request = entry.request;
  scheduler_.append(sequence, token.token_id);
  entry.logprobs.push_back(token.logprob);
  ++stats_.num_generated_tokens;
  if (request.on_token) request.on_token(token.token_id);
  const std::vector<int32_t>& stops = request.stop_token_ids;
  const bool stopped = std::find(stops.begin(), stops.end(), token.token_id) != stops.end();
  if (!stopped && sequence.num_tokens() < sequence.max_tokens) return;

  Completion completion{{sequence.token_ids.begin() + sequence.num_prompt_tokens, sequence.token_ids.end()},
                        std::move(entry.logprobs),
                        stopped ? FinishReason::kStop : FinishReason::kLength,
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
