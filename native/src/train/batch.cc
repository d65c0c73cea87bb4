// Checks of what crosses into the training kernels.
#include "train/batch.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace wideseek {
namespace {

constexpr const char* kOp = "Trainer";

void check_above(const char* field, float value, float low) {
  WS_CHECK(value > low, kInvalidArgument, kOp,
           std::string(field) + ": got " + std::to_string(value) + ", must be above " + std::to_string(low));
}

}  // namespace

void validate(const PackedBatch& batch, int64_t vocab_size, int64_t max_tokens) {
  WS_CHECK(batch.num_tokens >= 1 && batch.num_sequences >= 1, kInvalidArgument, kOp,
           "batch: got " + std::to_string(batch.num_sequences) + " sequences of " + std::to_string(batch.num_tokens) +
               " tokens, must not be empty");
  WS_CHECK(batch.num_tokens <= max_tokens, kInvalidArgument, kOp,
           "batch: got " + std::to_string(batch.num_tokens) + " tokens, limit is max_tokens " +
               std::to_string(max_tokens) + "; pack fewer sequences into a batch or raise the limit");
  const int32_t* cu_seqlens = batch.cu_seqlens;
  WS_CHECK(cu_seqlens[0] == 0 && cu_seqlens[batch.num_sequences] == batch.num_tokens, kInvalidArgument, kOp,
           "cuSeqlens: got first " + std::to_string(cu_seqlens[0]) + " and last " +
               std::to_string(cu_seqlens[batch.num_sequences]) + ", must be 0 and " + std::to_string(batch.num_tokens));
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    WS_CHECK(cu_seqlens[s] < cu_seqlens[s + 1], kInvalidArgument, kOp,
             "cuSeqlens: got " + std::to_string(cu_seqlens[s + 1]) + " after " + std::to_string(cu_seqlens[s]) +
                 " at " + std::to_string(s + 1) + ", must increase");
  }
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    WS_CHECK(batch.token_ids[t] >= 0 && batch.token_ids[t] < vocab_size, kInvalidArgument, kOp,
             "tokenIds[" + std::to_string(t) + "]: got " + std::to_string(batch.token_ids[t]) + ", vocab_size is " +
                 std::to_string(vocab_size));
  }
}

void validate(const PackedBatch& batch, const LossSettings& settings) {
  WS_CHECK(batch.loss_weights != nullptr, kInvalidArgument, kOp, "lossWeights: got none, they are required");
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    WS_CHECK(
        std::isfinite(batch.loss_weights[t]), kInvalidArgument, kOp,
        "lossWeights[" + std::to_string(t) + "]: got " + std::to_string(batch.loss_weights[t]) + ", must be finite");
  }
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    WS_CHECK(batch.loss_weights[batch.cu_seqlens[s]] == 0, kInvalidArgument, kOp,
             "lossWeights[" + std::to_string(batch.cu_seqlens[s]) + "]: got a weight for the first token of sequence " +
                 std::to_string(s) + ", which nothing predicts; must be 0");
  }
  check_above("temperature", settings.temperature, 0);
  WS_CHECK(std::isfinite(settings.temperature), kInvalidArgument, kOp, "temperature: got infinity");
  if (settings.kind == LossKind::kNll) return;
  WS_CHECK(batch.advantages != nullptr && batch.behavior_logprobs != nullptr, kInvalidArgument, kOp,
           "advantages and behaviorLogprobs: got none, the grpo loss needs both");
  WS_CHECK(settings.clip_low >= 0 && settings.clip_low <= 1, kInvalidArgument, kOp,
           "clipLow: got " + std::to_string(settings.clip_low) + ", must be in [0, 1]");
  WS_CHECK(settings.clip_high >= 0, kInvalidArgument, kOp,
           "clipHigh: got " + std::to_string(settings.clip_high) + ", must not be negative");
  check_above("dualClip", settings.dual_clip, 1);
  WS_CHECK(settings.kl_coefficient >= 0 && std::isfinite(settings.kl_coefficient), kInvalidArgument, kOp,
           "klCoefficient: got " + std::to_string(settings.kl_coefficient) + ", must be finite and not negative");
  WS_CHECK(settings.kl_coefficient == 0 || batch.ref_logprobs != nullptr, kInvalidArgument, kOp,
           "refLogprobs: got none, required with klCoefficient " + std::to_string(settings.kl_coefficient));
}

}  // namespace wideseek
