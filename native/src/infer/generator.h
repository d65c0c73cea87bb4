// Generation of many requests at once: scheduler, KV cache, forward pass and sampler, one step at a time. No thread.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "infer/block_manager.h"
#include "infer/prompt_lookup.h"
#include "infer/scheduler.h"
#include "model/model.h"

namespace wideseek {

enum class FinishReason { kStop, kLength };

struct Completion {
  std::vector<int32_t> token_ids;  // the stop token included
  std::vector<float> logprobs;     // nats, unfiltered, at the sampling temperature
  FinishReason finish_reason;
  uint64_t policy_version;
  int64_t num_cached_tokens;
};

struct GenerateRequest {
  std::vector<int32_t> prompt_ids;
  int64_t max_new_tokens;
  uint64_t seed;
  SamplingSettings sampling;
  std::vector<int32_t> stop_token_ids;
  // Called on the engine thread; exactly one of on_done and on_error, once. on_token may be empty.
  std::function<void(int32_t)> on_token;
  std::function<void(Completion)> on_done;
  std::function<void(std::exception_ptr)> on_error;
};

struct GeneratorOptions {
  int64_t max_context_tokens;
  int64_t kv_cache_tokens;   // rounded up to blocks; 0 (CUDA): what training leaves of the device, see DeviceState
  int64_t max_batch_tokens;  // rows of one step
  // Tokens of a sequence that may be guessed and computed in one step; 0: none. Draws are made in each row as if there
  // were no guess, so no result depends on it.
  int64_t max_draft_tokens = 0;
};

struct GeneratorStats {
  int64_t num_steps = 0;
  int64_t num_computed_tokens = 0;   // rows of all forward passes
  int64_t num_generated_tokens = 0;  // sampled
  int64_t num_cached_tokens = 0;     // prompt tokens found in the prefix cache
  int64_t num_draft_tokens = 0;      // guessed and computed
  int64_t num_right_drafts = 0;      // of them, sampled
  int64_t num_preemptions = 0;
  int64_t num_running = 0;
  int64_t num_waiting = 0;
  int64_t num_blocks = 0;
  int64_t num_blocks_used = 0;
  int64_t num_blocks_cached = 0;
  int64_t max_blocks_used = 0;
  double forward_seconds = 0;  // in forward passes and the sampling after them, without the planning between them
};

class Generator {
 public:
  Generator(Backend& backend, Model& model, const GeneratorOptions& options);

  // Throws kInvalidArgument or kOutOfMemory, without calling the request's callbacks. `key` names it for cancel().
  void add(uint64_t key, GenerateRequest request);
  // Drops a request and calls its on_error with `reason`; false if it has already ended.
  bool cancel(uint64_t key, std::exception_ptr reason);
  void cancel_all(std::exception_ptr reason);
  bool idle() const { return scheduler_.empty(); }
  // One forward pass and one sampled token for each sequence that is complete. A failure ends the requests it touches.
  void step(uint64_t policy_version);
  // The weights changed: nothing in the cache is valid any more.
  void clear_prefix_cache() { blocks_.clear_cache(); }
  GeneratorStats stats() const;
  // Of a cache for so many tokens.
  static int64_t cache_bytes(Model& model, int64_t tokens);
  int64_t kv_cache_bytes() const { return cache_.num_bytes(); }
  // The memory of the KV cache for a training pass, see KvCache::lend; only while idle.
  std::byte* lend_cache(int64_t bytes);

 private:
  struct Entry {
    uint64_t sequence_id;
    GenerateRequest request;
    std::vector<float> logprobs;
    PromptLookup lookup;
  };

  // Also draws a token for each slice that wants logits.
  void forward(const std::vector<ScheduledSlice>& plan);
  // Appends the tokens of one sequence, of which `num_drafts` were guessed, as far as the guesses are right.
  void append(Sequence& sequence, const SampledToken* tokens, int64_t num_drafts, uint64_t policy_version);
  // Throws kInternal with the layer where it began.
  [[noreturn]] void throw_not_finite(const Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason, uint64_t policy_version);
  // Frees the sequence and hands back its request.
  Entry take(uint64_t sequence_id);
  void fail(uint64_t sequence_id, std::exception_ptr reason);

  Backend& backend_;
  Model& model_;
  GeneratorOptions options_;
  BlockManager blocks_;
  KvCache cache_;
  Scheduler scheduler_;
  std::map<uint64_t, Entry> entries_;  // by key
  std::map<uint64_t, uint64_t> keys_;  // sequence id -> key
  GeneratorStats stats_;

  // Buffers of one step.
  std::vector<int32_t> token_ids_;
  std::vector<SequenceSlice> slices_;
  std::vector<int32_t> logit_rows_;
  std::vector<SampleRequest> draws_;
  std::vector<SampledToken> tokens_;
  std::string not_finite_;  // where it began; empty: not known
};

}  // namespace wideseek
