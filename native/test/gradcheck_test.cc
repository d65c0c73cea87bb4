// Every gradient against central differences of the loss, on tiny models of each architecture.
#include "check.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

// Fourth-order differences of the fp32 loss, whose own rounding noise sets the tolerance.
void check_gradients(const ModelConfig& config, const LossSettings& loss, Recompute recompute) {
  Instance made = make_model(config, 11);
  Model& model = *made.model;
  Random random(3);
  Batch batch;
  const std::vector<int32_t> shared = random_tokens(random, config.vocab_size, 18);
  for (const int64_t extra : {2, 5, 0}) {
    std::vector<int32_t> tokens = shared;
    const std::vector<int32_t> tail = random_tokens(random, config.vocab_size, extra);
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    batch.add(tokens, random, extra != 5);
  }
  Trainer trainer(model, {256, recompute});
  // Ratios well inside and well outside the clip range, so that no difference step crosses an edge.
  std::vector<float> logprobs(batch.token_ids.size()), entropies(batch.token_ids.size());
  trainer.logprobs(batch.view(), loss.temperature, logprobs.data(), entropies.data());
  for (size_t t = 0; t < logprobs.size(); ++t) {
    const float shift[] = {0.05f, -0.6f, 0.7f, -0.1f};
    batch.behavior_logprobs[t] = logprobs[t] + shift[t % 4];
    batch.ref_logprobs[t] = logprobs[t] + (t % 2 == 0 ? 0.3f : -0.2f);
  }
  const auto loss_now = [&] {
    const double value = trainer.forward_backward(batch.view(), loss, nullptr).loss;
    trainer.zero_gradients();
    return value;
  };

  trainer.forward_backward(batch.view(), loss, nullptr);
  std::vector<std::vector<float>> gradients;
  for (size_t p = 0; p < model.parameters().size(); ++p) {
    gradients.push_back(read(trainer, model, TensorKind::kGradient, static_cast<int64_t>(p)));
  }
  trainer.zero_gradients();
  constexpr float kStep = 0.01f;
  for (size_t p = 0; p < model.parameters().size(); ++p) {
    std::vector<float> weights = read(trainer, model, TensorKind::kWeight, static_cast<int64_t>(p));
    std::vector<float> numeric(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      const float original = weights[i];
      const auto at = [&](float offset) {
        weights[i] = original + offset;
        trainer.write_tensor(TensorKind::kWeight, static_cast<int64_t>(p), weights.data());
        return loss_now();
      };
      numeric[i] = static_cast<float>((8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep));
      weights[i] = original;
    }
    trainer.write_tensor(TensorKind::kWeight, static_cast<int64_t>(p), weights.data());
    const double error = relative_difference(numeric, gradients[p]);
    if (!(error < 5e-3)) {
      check::fail(__FILE__, __LINE__, model.parameters()[p].name + ": relative error " + std::to_string(error));
    }
  }
}

}  // namespace

TEST(gradients_match_differences_qwen3_tied) { check_gradients(qwen3(true), nll(), Recompute::kNone); }
TEST(gradients_match_differences_qwen3_untied_recomputed) { check_gradients(qwen3(false), nll(), Recompute::kFull); }
TEST(gradients_match_differences_qwen2_bias) { check_gradients(qwen2(), nll(), Recompute::kSelective); }
TEST(gradients_match_differences_grpo) { check_gradients(qwen3(true), grpo(), Recompute::kNone); }
