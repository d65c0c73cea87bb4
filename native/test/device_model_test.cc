// A bf16 model of the shape that is trained, on the device against the CPU backend, which computes in fp32 with the
// same weights: log-probabilities, loss, every gradient; and generation against training, to the bit. The model that a
// GPU gets is larger than what the emulation can run.
#include <cmath>
#include <string>

#include "check.h"
#include "device.h"
#include "tiny_generation.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

constexpr uint64_t kSeed = 33;
constexpr double kStd = 0.04;

ModelConfig shaped(int64_t layers, int64_t hidden, int64_t heads, int64_t head_dim, int64_t vocab_size) {
  ModelConfig config = qwen3(true);
  config.vocab_size = vocab_size;
  config.hidden_size = hidden;
  config.intermediate_size = 3 * hidden;
  config.num_layers = layers;
  config.num_heads = heads;
  config.num_kv_heads = heads / 2;
  config.head_dim = head_dim;
  config.max_position_embeddings = 4096;
  config.rope_theta = 1e6;
  return config;
}

// Sequences of `length` that share a prefix of three quarters, one that branches early, and short ones.
Batch agents(const ModelConfig& config, int64_t length) {
  Random random(kSeed);
  Batch batch;
  const std::vector<int32_t> first = random_tokens(random, config.vocab_size, length);
  batch.add(first, random);
  for (const int64_t shared : {length * 3 / 4, length * 3 / 4, length / 5}) {
    std::vector<int32_t> tokens(first.begin(), first.begin() + shared);
    const std::vector<int32_t> tail = random_tokens(random, config.vocab_size, length - shared - random.integer(0, 9));
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    batch.add(tokens, random, false);
  }
  batch.add(random_tokens(random, config.vocab_size, 37), random);
  batch.add(random_tokens(random, config.vocab_size, 2), random);
  return batch;
}

// As sampled by nearly this policy: ratios stay far from where the loss clips, where rounding would decide.
void make_on_policy(Batch& batch, const std::vector<float>& logprobs) {
  Random random(kSeed + 1);
  for (size_t t = 0; t < logprobs.size(); ++t) {
    batch.behavior_logprobs[t] = logprobs[t];
    batch.ref_logprobs[t] = logprobs[t] + 0.1f * static_cast<float>(random.normal());
  }
}

struct Pass {
  LossStats stats{};
  std::vector<float> logprobs, gradients;
};

Pass forward_backward(Trainer& trainer, const Model& model, const Batch& batch) {
  Pass pass;
  pass.logprobs.resize(batch.token_ids.size());
  trainer.zero_gradients();
  pass.stats =
      trainer.forward_backward(batch.view(), {LossKind::kGrpo, 1.0f, 0.2f, 0.28f, 10.0f, 0.05f}, pass.logprobs.data());
  pass.gradients = read_all(trainer, model, TensorKind::kGradient);
  return pass;
}

// A number that is rounded to bf16 is off by at most 2^-8 of itself, 2^-9.3 in the mean square. A layer rounds about
// ten activations one after the other on the way forward and ten gradients on the way back, each independently of the
// others, so a gradient of L layers is off by sqrt(20 L) 2^-9.3 of its norm. Twice that, for what softmax and norms
// add.
double rounding_limit(const ModelConfig& config) {
  return 2 * std::sqrt(20.0 * static_cast<double>(config.num_layers)) * std::exp2(-9.3);
}

void compare(const Model& model, const Batch& batch, const Pass& got, const Pass& want) {
  const double limit = rounding_limit(model.config());
  CHECK_NEAR(relative_difference(got.logprobs, want.logprobs), 0, limit / 4);
  double squares = 0, weight = 0;
  for (size_t t = 0; t < got.logprobs.size(); ++t) {
    squares += std::pow(double{got.logprobs[t]} - want.logprobs[t], 2);
    weight += std::fabs(batch.loss_weights[t]);
  }
  // Advantages are up to 1.3; each token's loss is off by that times what its log-probability is off by.
  const double off = std::sqrt(squares / static_cast<double>(want.stats.num_tokens));
  CHECK_NEAR(got.stats.loss, want.stats.loss, 1.5 * weight * off);
  CHECK(got.stats.num_tokens == want.stats.num_tokens && got.stats.num_clipped_low == want.stats.num_clipped_low);
  CHECK_NEAR(got.stats.sum_entropy, want.stats.sum_entropy, limit * want.stats.sum_entropy);
  CHECK_NEAR(got.stats.sum_nll, want.stats.sum_nll, limit * want.stats.sum_nll);
  CHECK_NEAR(relative_difference(got.gradients, want.gradients), 0, limit);
  auto a = got.gradients.begin(), b = want.gradients.begin();
  for (const Parameter& parameter : model.parameters()) {
    const int64_t count = parameter.num_elements();
    const double error = relative_difference({a, a + count}, {b, b + count});
    if (!(error <= 2 * limit)) {  // a small tensor has fewer roundings to average
      check::fail(__FILE__, __LINE__, parameter.name + ": relative error " + std::to_string(error));
    }
    a += count;
    b += count;
  }
}

void check_model(const ModelConfig& config, int64_t length) {
  Batch batch = agents(config, length);
  const auto tokens = static_cast<int64_t>(batch.token_ids.size());
  const Instance cpu =
      make_model_on(create_backend("cpu", device::cpu_threads()), config, kSeed, DType::kBFloat16, kStd);
  const Instance made = make_model_on(device::create(DType::kBFloat16), config, kSeed, DType::kBFloat16, kStd);
  Trainer on_cpu(*cpu.model, {tokens}), trainer(*made.model, {tokens});
  std::vector<float> logprobs(batch.token_ids.size()), entropies = logprobs;
  on_cpu.logprobs(batch.view(), 1.0f, logprobs.data(), entropies.data());
  make_on_policy(batch, logprobs);

  const auto [got, again] = device::twice([&] { return forward_backward(trainer, *made.model, batch); });
  CHECK(same_bits(got.logprobs, again.logprobs) && got.stats.loss == again.stats.loss);
  CHECK(same_bits(got.gradients, again.gradients));
  compare(*made.model, batch, got, forward_backward(on_cpu, *cpu.model, batch));

  trainer.logprobs(batch.view(), 1.0f, logprobs.data(), entropies.data());
  CHECK(same_bits(generate_logprobs(*made.model, *made.backend, batch, 1, 1.0f), logprobs));
  for (size_t t = 0; t < logprobs.size(); ++t) {
    CHECK(got.logprobs[t] == (batch.loss_weights[t] == 0 ? 0.0f : logprobs[t]));
  }
}

}  // namespace

TEST(device_model_is_within_rounding_of_the_cpu) { check_model(shaped(2, 64, 2, 64, 700), 44); }

DEVICE_TEST(device_large_model_is_within_rounding_of_the_cpu) { check_model(shaped(4, 1024, 16, 128, 32000), 2048); }
