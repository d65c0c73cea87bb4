// What generation computes for given tokens, for the tests that hold it against the trainer.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "tiny_model.h"

namespace tiny {

// Runs the sequences of `batch` through Model::forward in random chunks of random batches, and returns the
// log-probability of each token given those before it, aligned as the trainer's.
inline std::vector<float> generate_logprobs(Model& model, Backend& backend, const Batch& batch, uint64_t seed,
                                            float temperature) {
  Random random(seed);
  const int64_t num_sequences = static_cast<int64_t>(batch.cu_seqlens.size()) - 1;
  const int64_t vocab_size = model.config().vocab_size;
  int64_t longest = 256, num_blocks = 256;
  for (int64_t s = 0; s < num_sequences; ++s) longest = std::max(longest, batch.length(s));
  while (num_blocks < static_cast<int64_t>(batch.token_ids.size()) / kKvBlockTokens + num_sequences) num_blocks *= 2;
  model.reserve_inference(std::max<int64_t>(1024, static_cast<int64_t>(batch.token_ids.size())), longest);
  KvCache cache(backend, model.config(), num_blocks);
  std::vector<int32_t> free_blocks;
  for (int64_t block = 0; block < num_blocks; ++block) {
    free_blocks.push_back(static_cast<int32_t>(block * 37 % num_blocks));  // scattered
  }
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(num_sequences));
  std::vector<int64_t> done(static_cast<size_t>(num_sequences), 0);
  std::vector<float> logprobs(batch.token_ids.size(), 0.0f);
  while (true) {
    std::vector<int32_t> token_ids, logit_rows;
    std::vector<SequenceSlice> slices;
    std::vector<std::pair<int64_t, int64_t>> origin;  // sequence and position of each row
    bool all_done = true;
    for (int64_t offset = 0; offset < num_sequences; ++offset) {
      const int64_t s = (offset + static_cast<int64_t>(seed)) % num_sequences;
      const int64_t left = batch.length(s) - done[s];
      if (left == 0) continue;
      all_done = false;
      if (random.integer(0, 2) == 0) continue;
      const int64_t count = random.integer(0, 1) == 0 ? 1 : random.integer(1, left);
      while (static_cast<int64_t>(tables[s].size()) * kKvBlockTokens < done[s] + count) {
        tables[s].push_back(free_blocks.back());
        free_blocks.pop_back();
      }
      slices.push_back({static_cast<int64_t>(token_ids.size()), count, done[s], tables[s].data()});
      for (int64_t i = 0; i < count; ++i) {
        logit_rows.push_back(static_cast<int32_t>(token_ids.size()));
        origin.emplace_back(s, done[s] + i);
        token_ids.push_back(batch.token_ids[batch.cu_seqlens[s] + done[s] + i]);
      }
      done[s] += count;
    }
    if (all_done) return logprobs;
    std::vector<float> logits(logit_rows.size() * static_cast<size_t>(vocab_size));
    const auto download = [&](int64_t first, int64_t count, const float* chunk) {
      backend.download(logits.data() + first * vocab_size, chunk,
                       count * vocab_size * static_cast<int64_t>(sizeof(float)));
    };
    model.forward({token_ids.data(), static_cast<int64_t>(token_ids.size()), slices.data(),
                   static_cast<int64_t>(slices.size()), logit_rows.data(), static_cast<int64_t>(logit_rows.size())},
                  cache, download);
    for (size_t row = 0; row < origin.size(); ++row) {
      const auto [s, position] = origin[row];
      if (position + 1 == batch.length(s)) continue;
      const int64_t next = batch.cu_seqlens[s] + position + 1;
      logprobs[next] = row_logprob(logits.data() + row * static_cast<size_t>(vocab_size), vocab_size,
                                   batch.token_ids[next], temperature);
    }
  }
}

}  // namespace tiny
