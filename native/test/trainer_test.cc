// The trainer: what its results may not depend on, AdamW, and how it fails.
#include <limits>

#include "check.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

constexpr OptimizerSettings kAdamW{0.01, 1.0, 0.9, 0.999, 1e-8, 0.1};

struct Outcome {
  std::vector<float> logprobs, gradients, weights;
  LossStats stats;
};

Outcome train_once(const ModelConfig& config, const Batch& batch, const LossSettings& loss, int num_threads,
                   Recompute recompute, DType dtype = DType::kFloat32) {
  Instance made = make_model(config, 21, num_threads, dtype);
  Trainer trainer(*made.model, {1024, recompute});
  Outcome outcome;
  outcome.logprobs.resize(batch.token_ids.size());
  outcome.stats = trainer.forward_backward(batch.view(), loss, outcome.logprobs.data());
  outcome.gradients = read_all(trainer, *made.model, TensorKind::kGradient);
  trainer.optimizer_step(kAdamW);
  outcome.weights = read_all(trainer, *made.model, TensorKind::kWeight);
  return outcome;
}

// One sequence per batch: nothing is shared, nothing is packed.
Outcome train_apart(const ModelConfig& config, const Batch& batch, const LossSettings& loss) {
  Instance made = make_model(config, 21);
  Trainer trainer(*made.model, {1024});
  Outcome outcome{};
  for (size_t s = 0; s + 1 < batch.cu_seqlens.size(); ++s) {
    const int32_t first = batch.cu_seqlens[s];
    const int32_t bounds[] = {0, batch.cu_seqlens[s + 1] - first};
    std::vector<float> logprobs(static_cast<size_t>(bounds[1]));
    const PackedBatch one{bounds[1],
                          1,
                          batch.token_ids.data() + first,
                          bounds,
                          batch.loss_weights.data() + first,
                          batch.advantages.data() + first,
                          batch.behavior_logprobs.data() + first,
                          batch.ref_logprobs.data() + first};
    const LossStats stats = trainer.forward_backward(one, loss, logprobs.data());
    outcome.stats.loss += stats.loss;
    outcome.stats.num_tokens += stats.num_tokens;
    outcome.stats.sum_entropy += stats.sum_entropy;
    outcome.logprobs.insert(outcome.logprobs.end(), logprobs.begin(), logprobs.end());
  }
  outcome.gradients = read_all(trainer, *made.model, TensorKind::kGradient);
  return outcome;
}

}  // namespace

TEST(shared_prefixes_change_no_logprob_and_gradients_only_by_rounding) {
  for (const ModelConfig& config : {odd_sizes(), qwen2()}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const Batch batch = branching_batch(seed, config.vocab_size);
      for (const LossSettings& loss : {nll(), grpo()}) {
        const Outcome together = train_once(config, batch, loss, 2, Recompute::kNone);
        const Outcome apart = train_apart(config, batch, loss);
        CHECK(same_bits(together.logprobs, apart.logprobs));
        CHECK(together.stats.num_tokens == apart.stats.num_tokens);
        CHECK_NEAR(together.stats.loss, apart.stats.loss, 1e-9 * std::fabs(apart.stats.loss));
        CHECK_NEAR(together.stats.sum_entropy, apart.stats.sum_entropy, 1e-9 * apart.stats.sum_entropy);
        CHECK_NEAR(relative_difference(together.gradients, apart.gradients), 0, 2e-6);
      }
    }
  }
}

TEST(recomputing_activations_and_threads_change_no_bit) {
  const Batch batch = branching_batch(4, odd_sizes().vocab_size);
  const Outcome base = train_once(odd_sizes(), batch, grpo(), 1, Recompute::kNone);
  for (const int num_threads : {1, 2, 3}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      const Outcome other = train_once(odd_sizes(), batch, grpo(), num_threads, recompute);
      CHECK(same_bits(base.logprobs, other.logprobs));
      CHECK(same_bits(base.gradients, other.gradients));
      CHECK(same_bits(base.weights, other.weights));
      CHECK(base.stats.loss == other.stats.loss);
    }
  }
}

TEST(scoring_takes_no_memory_of_training) {
  Instance made = make_model(odd_sizes(), 2);
  const Batch batch = branching_batch(9, odd_sizes().vocab_size);
  const TrainerOptions options{1024};
  const int64_t before = made.backend->memory_info().allocated_bytes;
  Trainer trainer(*made.model, options);
  std::vector<float> logprobs(batch.token_ids.size()), entropies(batch.token_ids.size());
  trainer.logprobs(batch.view(), 1, logprobs.data(), entropies.data());
  const int64_t scoring = made.backend->memory_info().allocated_bytes - before;
  trainer.forward_backward(batch.view(), grpo(), nullptr);
  trainer.optimizer_step(kAdamW);
  const int64_t all = made.backend->memory_info().allocated_bytes - before;
  int64_t num_weights = 0;
  for (const Parameter& parameter : made.model->parameters()) num_weights += parameter.num_elements();
  CHECK(all - scoring > 3 * 4 * num_weights);  // gradients and moments
  // The position tables are the model's own.
  CHECK_NEAR(all, Trainer::planned_bytes(*made.model, options), 0.02 * all);
}

TEST(forward_backward_and_logprobs_agree_to_the_bit) {
  Instance made = make_model(odd_sizes(), 2, 2);
  const Batch batch = branching_batch(9, odd_sizes().vocab_size);
  Trainer trainer(*made.model, {1024});
  const size_t count = batch.token_ids.size();
  std::vector<float> pass(count), entropies(count), trained(count);
  trainer.logprobs(batch.view(), grpo().temperature, pass.data(), entropies.data());
  trainer.forward_backward(batch.view(), grpo(), trained.data());
  for (size_t t = 0; t < count; ++t) CHECK(trained[t] == (batch.loss_weights[t] == 0 ? 0.0f : pass[t]));
}

TEST(on_policy_logprobs_give_a_ratio_of_exactly_one) {
  Instance made = make_model(qwen3(true), 2);
  Batch batch = branching_batch(9, 19);
  Trainer trainer(*made.model, {1024});
  std::vector<float> entropies(batch.token_ids.size());
  trainer.logprobs(batch.view(), grpo().temperature, batch.behavior_logprobs.data(), entropies.data());
  const LossStats stats = trainer.forward_backward(batch.view(), grpo(), nullptr);
  CHECK(stats.min_ratio == 1.0 && stats.max_ratio == 1.0 && stats.sum_kl_k1 == 0.0 &&
        stats.max_abs_logprob_diff == 0.0);
}

TEST(gradients_accumulate_over_batches_and_a_step_clears_them) {
  Instance made = make_model(qwen3(true), 2);
  const Batch batch = branching_batch(1, 19);
  Trainer trainer(*made.model, {1024});
  trainer.forward_backward(batch.view(), nll(), nullptr);
  std::vector<float> twice = read_all(trainer, *made.model, TensorKind::kGradient);
  for (float& value : twice) value *= 2;
  trainer.forward_backward(batch.view(), nll(), nullptr);
  CHECK_NEAR(relative_difference(read_all(trainer, *made.model, TensorKind::kGradient), twice), 0, 1e-6);
  trainer.optimizer_step(kAdamW);
  for (const float value : read_all(trainer, *made.model, TensorKind::kGradient)) CHECK(value == 0.0f);
}

TEST(a_batch_without_trained_tokens_does_nothing) {
  Instance made = make_model(qwen3(true), 2);
  Batch batch = branching_batch(1, 19);
  std::fill(batch.loss_weights.begin(), batch.loss_weights.end(), 0.0f);
  Trainer trainer(*made.model, {1024});
  CHECK(trainer.forward_backward(batch.view(), grpo(), nullptr).num_tokens == 0);
  for (const float value : read_all(trainer, *made.model, TensorKind::kGradient)) CHECK(value == 0.0f);
}

TEST(adamw_follows_the_formula_of_torch) {
  Instance made = make_model(qwen3(false), 7, 2);
  Model& model = *made.model;
  Trainer trainer(model, {64});
  const size_t num_parameters = model.parameters().size();
  std::vector<std::vector<double>> weights(num_parameters), first(num_parameters), second(num_parameters);
  for (size_t p = 0; p < num_parameters; ++p) {
    for (const float value : read(trainer, model, TensorKind::kWeight, static_cast<int64_t>(p)))
      weights[p].push_back(value);
    first[p].assign(weights[p].size(), 0);
    second[p].assign(weights[p].size(), 0);
  }
  for (int step = 1; step <= 4; ++step) {
    double norm = 0;
    std::vector<std::vector<float>> gradients(num_parameters);
    for (size_t p = 0; p < num_parameters; ++p) {
      for (size_t i = 0; i < weights[p].size(); ++i) {
        gradients[p].push_back(static_cast<float>((step % 2 == 0 ? 1.0 : 0.001) * philox_normal(99, p * 8 + step, i)));
        norm += double{gradients[p].back()} * gradients[p].back();
      }
      trainer.write_tensor(TensorKind::kGradient, static_cast<int64_t>(p), gradients[p].data());
    }
    norm = std::sqrt(norm);
    const OptimizerStepResult result = trainer.optimizer_step(kAdamW);
    CHECK(!result.skipped);
    CHECK_NEAR(result.grad_norm, norm, 1e-9 * norm);
    CHECK(trainer.num_steps() == step);
    const double clip = std::min(1.0, kAdamW.max_grad_norm / (norm + 1e-6));
    for (size_t p = 0; p < num_parameters; ++p) {
      const double decay = model.parameters()[p].decayed ? kAdamW.weight_decay : 0.0;
      const std::vector<float> updated = read(trainer, model, TensorKind::kWeight, static_cast<int64_t>(p));
      for (size_t i = 0; i < weights[p].size(); ++i) {
        const double gradient = clip * gradients[p][i];
        double& weight = weights[p][i];
        weight *= 1 - kAdamW.learning_rate * decay;
        first[p][i] = 0.9 * first[p][i] + 0.1 * gradient;
        second[p][i] = 0.999 * second[p][i] + 0.001 * gradient * gradient;
        const double denominator = std::sqrt(second[p][i] / (1 - std::pow(0.999, step))) + 1e-8;
        weight -= kAdamW.learning_rate * first[p][i] / (1 - std::pow(0.9, step)) / denominator;
        CHECK_NEAR(updated[i], weight, 5e-7);
      }
    }
  }
}

TEST(a_gradient_that_is_not_finite_skips_the_step_and_changes_nothing_else) {
  Instance made = make_model(qwen3(true), 7);
  Trainer trainer(*made.model, {1024});
  const Batch batch = branching_batch(1, 19);
  trainer.forward_backward(batch.view(), nll(), nullptr);
  trainer.optimizer_step(kAdamW);
  const std::vector<float> weights = read_all(trainer, *made.model, TensorKind::kWeight);
  const std::vector<float> first = read_all(trainer, *made.model, TensorKind::kFirstMoment);
  const std::vector<float> second = read_all(trainer, *made.model, TensorKind::kSecondMoment);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    trainer.forward_backward(batch.view(), nll(), nullptr);
    std::vector<float> gradient = read(trainer, *made.model, TensorKind::kGradient, 3);
    gradient[5] = bad;
    trainer.write_tensor(TensorKind::kGradient, 3, gradient.data());
    CHECK(trainer.optimizer_step(kAdamW).skipped);
    CHECK(trainer.num_steps() == 1);
    CHECK(same_bits(weights, read_all(trainer, *made.model, TensorKind::kWeight)));
    CHECK(same_bits(first, read_all(trainer, *made.model, TensorKind::kFirstMoment)));
    CHECK(same_bits(second, read_all(trainer, *made.model, TensorKind::kSecondMoment)));
    for (const float value : read_all(trainer, *made.model, TensorKind::kGradient)) CHECK(value == 0.0f);
  }
}

TEST(a_ratio_that_overflows_ends_as_a_skipped_step) {
  Instance made = make_model(qwen3(true), 7);
  Trainer trainer(*made.model, {1024});
  Batch batch = branching_batch(1, 19);
  std::fill(batch.behavior_logprobs.begin(), batch.behavior_logprobs.end(), -1e6f);
  std::fill(batch.advantages.begin(), batch.advantages.end(), -1.0f);
  LossSettings loss = grpo();
  loss.dual_clip = std::numeric_limits<float>::infinity();
  trainer.forward_backward(batch.view(), loss, nullptr);
  CHECK(trainer.optimizer_step(kAdamW).skipped);
  trainer.forward_backward(batch.view(), grpo(), nullptr);  // the dual clip bounds it
  CHECK(!trainer.optimizer_step(kAdamW).skipped);
}

TEST(bf16_weights_follow_an_fp32_master_copy) {
  Instance made = make_model(odd_sizes(), 7, 2, DType::kBFloat16);
  Model& model = *made.model;
  const Batch batch = branching_batch(3, odd_sizes().vocab_size);
  Trainer trainer(model, {1024});
  trainer.forward_backward(batch.view(), nll(), nullptr);
  OptimizerSettings small = kAdamW;
  small.learning_rate = 1e-5;  // far below half a bf16 step
  std::vector<float> before = read_all(trainer, model, TensorKind::kWeight);
  trainer.optimizer_step(small);
  const std::vector<float> master = read_all(trainer, model, TensorKind::kWeight);
  CHECK(!same_bits(before, master));

  // The forward pass uses the rounded values: a model loaded with them gives the same bits.
  Instance copy = make_model(odd_sizes(), 8, 1, DType::kFloat32);
  for (size_t p = 0; p < model.parameters().size(); ++p) {
    std::vector<uint16_t> rounded(static_cast<size_t>(model.parameters()[p].num_elements()));
    model.read_parameter(static_cast<int64_t>(p), rounded.data(), DType::kBFloat16);
    copy.model->write_parameter(static_cast<int64_t>(p), rounded.data(), DType::kBFloat16);
  }
  Trainer other(*copy.model, {1024});
  const size_t count = batch.token_ids.size();
  std::vector<float> a(count), b(count), entropies(count);
  trainer.logprobs(batch.view(), 1.0f, a.data(), entropies.data());
  other.logprobs(batch.view(), 1.0f, b.data(), entropies.data());
  CHECK(same_bits(a, b));
}

TEST(bad_batches_and_settings_are_refused) {
  Instance made = make_model(qwen3(true), 7);
  Trainer trainer(*made.model, {40});
  const Batch good = branching_batch(1, 19);
  std::vector<float> out(good.token_ids.size());
  CHECK_THROWS(trainer.forward_backward(good.view(), nll(), nullptr));  // more than 40 tokens
  Random random(1);
  Batch batch;
  batch.add({1, 2, 3}, random);
  trainer.forward_backward(batch.view(), nll(), nullptr);
  const auto refused = [&](auto change, LossSettings loss = grpo()) {
    Batch bad = batch;
    PackedBatch view = bad.view();
    change(bad, view, loss);
    CHECK_THROWS(trainer.forward_backward(view, loss, nullptr));
  };
  refused([](Batch& bad, PackedBatch&, LossSettings&) { bad.token_ids[1] = 19; });
  refused([](Batch& bad, PackedBatch&, LossSettings&) { bad.loss_weights[0] = 1; });
  refused(
      [](Batch& bad, PackedBatch&, LossSettings&) { bad.loss_weights[1] = std::numeric_limits<float>::quiet_NaN(); });
  refused([](Batch& bad, PackedBatch&, LossSettings&) { bad.cu_seqlens[1] = 2; });
  refused([](Batch&, PackedBatch& view, LossSettings&) { view.ref_logprobs = nullptr; });
  refused([](Batch&, PackedBatch& view, LossSettings&) { view.advantages = nullptr; });
  refused([](Batch&, PackedBatch&, LossSettings& loss) { loss.temperature = 0; });
  refused([](Batch&, PackedBatch&, LossSettings& loss) { loss.dual_clip = 0.5f; });
  CHECK_THROWS(trainer.logprobs(batch.view(), 0.0f, out.data(), out.data()));
  CHECK_THROWS(Trainer(*made.model, {0}));
}

TEST(sharing_prefixes_changes_no_logprob_and_gradients_by_rounding_alone) {
  const ModelConfig config = qwen3(true);
  const Batch batch = branching_batch(5, config.vocab_size);
  const auto tokens = static_cast<int64_t>(batch.token_ids.size());
  std::vector<float> logprobs[2], gradients[2];
  for (const bool share : {false, true}) {
    Instance made = make_model(config, 1);
    Trainer trainer(*made.model, {tokens, Recompute::kNone, DType::kFloat32, share});
    logprobs[share].resize(batch.token_ids.size());
    trainer.forward_backward(batch.view(), nll(), logprobs[share].data());
    gradients[share] = read_all(trainer, *made.model, TensorKind::kGradient);
  }
  CHECK(same_bits(logprobs[0], logprobs[1]));
  CHECK(relative_difference(gradients[1], gradients[0]) < 1e-5);
}
