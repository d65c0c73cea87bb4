// The whole model and trainer on the CUDA device against the CPU backend: every logit, log-probability, gradient and
// AdamW step, on tiny models; and that generation and training agree to the bit on the device too.
#include "check.h"
#include "cuda/gpu.h"
#include "device.h"
#include "tiny_generation.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

constexpr OptimizerSettings kAdamW{0.01, 1.0, 0.9, 0.999, 1e-8, 0.1};
constexpr uint64_t kSeed = 21;

Instance make_cuda_model(const ModelConfig& config, DType dtype, bool pinned = false) {
  return make_model_on(device::create(dtype, pinned), config, kSeed, dtype);
}

// Heads of 64 with four queries to a key, as Qwen3 has them, for the kernels that tensor cores run.
ModelConfig wide_heads() {
  ModelConfig config = qwen3(true);
  config.vocab_size = 67;
  config.hidden_size = 64;
  config.intermediate_size = 72;
  config.num_heads = 4;
  config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

Batch small_batch(uint64_t seed, int64_t vocab_size) {
  Random random(seed);
  Batch batch;
  const std::vector<int32_t> shared = random_tokens(random, vocab_size, 21);
  for (const int64_t extra : {9, 3, 18}) {
    std::vector<int32_t> tokens = shared;
    const std::vector<int32_t> tail = random_tokens(random, vocab_size, extra);
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    batch.add(tokens, random, extra != 3);
  }
  batch.add(random_tokens(random, vocab_size, 7), random);
  return batch;
}

struct Outcome {
  std::vector<float> logprobs, gradients, weights, first, second;
  LossStats stats{};
  OptimizerStepResult step{};
};

Outcome train_once(Instance made, const Batch& batch, const LossSettings& loss,
                   Recompute recompute = Recompute::kNone) {
  Trainer trainer(*made.model, {128, recompute});
  Outcome outcome;
  outcome.logprobs.resize(batch.token_ids.size());
  outcome.stats = trainer.forward_backward(batch.view(), loss, outcome.logprobs.data());
  outcome.gradients = read_all(trainer, *made.model, TensorKind::kGradient);
  outcome.step = trainer.optimizer_step(kAdamW);
  outcome.weights = read_all(trainer, *made.model, TensorKind::kWeight);
  outcome.first = read_all(trainer, *made.model, TensorKind::kFirstMoment);
  outcome.second = read_all(trainer, *made.model, TensorKind::kSecondMoment);
  return outcome;
}

// Every gradient of its own: one that is small beside the others must be right too.
void check_gradients(const ModelConfig& config, const std::vector<float>& got, const std::vector<float>& want,
                     double tolerance) {
  const Instance model = make_model(config, kSeed);
  auto at = got.begin();
  auto expected = want.begin();
  for (const Parameter& parameter : model.model->parameters()) {
    const int64_t count = parameter.num_elements();
    const double error = relative_difference({at, at + count}, {expected, expected + count});
    if (!(error <= tolerance)) {
      check::fail(__FILE__, __LINE__, parameter.name + ": relative error " + std::to_string(error));
    }
    at += count;
    expected += count;
  }
}

void check_fp32(const ModelConfig& config, const LossSettings& loss) {
  const Batch batch = small_batch(5, config.vocab_size);
  const Outcome want = train_once(make_model(config, kSeed), batch, loss);
  const Outcome got = train_once(make_cuda_model(config, DType::kFloat32), batch, loss);
  CHECK_NEAR(relative_difference(got.logprobs, want.logprobs), 0, 2e-6);
  CHECK(got.stats.num_tokens == want.stats.num_tokens);
  CHECK_NEAR(got.stats.loss, want.stats.loss, 1e-5 * std::fabs(want.stats.loss));
  CHECK_NEAR(got.stats.sum_entropy, want.stats.sum_entropy, 1e-5 * want.stats.sum_entropy);
  check_gradients(config, got.gradients, want.gradients, 1e-5);
  CHECK_NEAR(got.step.grad_norm, want.step.grad_norm, 1e-5 * want.step.grad_norm);
  CHECK_NEAR(relative_difference(got.first, want.first), 0, 1e-5);
  CHECK_NEAR(relative_difference(got.second, want.second), 0, 1e-5);
  // A first step of Adam is the sign of the gradient, also of one that is nearly zero.
  CHECK_NEAR(relative_difference(got.weights, want.weights), 0, 1e-3);
}

void check_bf16(const ModelConfig& config) {
  const Batch batch = small_batch(5, config.vocab_size);
  // The CPU computes in fp32 with the same bf16 weights.
  const Outcome want = train_once(make_model(config, kSeed, 1, DType::kBFloat16), batch, grpo());
  const Outcome got = train_once(make_cuda_model(config, DType::kBFloat16), batch, grpo());
  CHECK_NEAR(relative_difference(got.logprobs, want.logprobs), 0, 0.02);
  CHECK_NEAR(relative_difference(got.gradients, want.gradients), 0, 0.05);
  CHECK_NEAR(got.step.grad_norm, want.step.grad_norm, 0.03 * want.step.grad_norm);
}

void check_generation(const ModelConfig& config, DType dtype) {
  const Batch batch = small_batch(8, config.vocab_size);
  Instance made = make_cuda_model(config, dtype);
  Trainer trainer(*made.model, {128});
  const size_t count = batch.token_ids.size();
  std::vector<float> pass(count), entropies(count), trained(count);
  trainer.logprobs(batch.view(), 0.7f, pass.data(), entropies.data());
  CHECK(same_bits(generate_logprobs(*made.model, *made.backend, batch, 1, 0.7f), pass));
  LossSettings loss = grpo();
  loss.temperature = 0.7f;
  trainer.forward_backward(batch.view(), loss, trained.data());
  for (size_t t = 0; t < count; ++t) CHECK(trained[t] == (batch.loss_weights[t] == 0 ? 0.0f : pass[t]));
}

}  // namespace

TEST(cuda_model_matches_the_cpu_in_fp32) {
  check_fp32(qwen3(true), nll());
  check_fp32(qwen2(), grpo());
  emulation::set_thread_order(emulation::ThreadOrder::kLastToFirst);
  check_fp32(odd_sizes(), grpo());
  emulation::set_thread_order(emulation::ThreadOrder::kFirstToLast);
}

TEST(cuda_model_matches_the_cpu_in_bf16_within_rounding) {
  check_bf16(odd_sizes());
  check_bf16(wide_heads());
}

TEST(cuda_generation_gives_the_trainers_logprobs_bit_for_bit) {
  check_generation(odd_sizes(), DType::kFloat32);
  check_generation(qwen2(), DType::kBFloat16);
  check_generation(wide_heads(), DType::kBFloat16);
}

TEST(cuda_mixture_of_experts_matches_the_cpu_and_itself) {
  ModelConfig config = wide_heads();
  config.tie_word_embeddings = false;
  config.moe = MoeConfig{5, 2, 24, true, {true, false}};
  const Batch batch = small_batch(5, config.vocab_size);
  const auto logprobs = [&](Instance made) {
    Trainer trainer(*made.model, {128});
    std::vector<float> values(batch.token_ids.size()), entropies(values.size());
    trainer.logprobs(batch.view(), 0.7f, values.data(), entropies.data());
    CHECK(same_bits(generate_logprobs(*made.model, *made.backend, batch, 1, 0.7f), values));
    CHECK_THROWS(trainer.forward_backward(batch.view(), grpo(), nullptr));
    return values;
  };
  const std::vector<float> want = logprobs(make_model(config, kSeed));
  CHECK_NEAR(relative_difference(logprobs(make_cuda_model(config, DType::kFloat32)), want), 0, 2e-6);
  // Rounding may send a token to another expert, so the two are only close as a whole.
  const std::vector<float> narrow = logprobs(make_model(config, kSeed, 1, DType::kBFloat16));
  CHECK_NEAR(relative_difference(logprobs(make_cuda_model(config, DType::kBFloat16)), narrow), 0, 0.05);
}

TEST(cuda_recomputing_pinned_state_and_thread_order_change_no_bit) {
  const ModelConfig config = wide_heads();
  const Batch batch = small_batch(4, config.vocab_size);
  const Outcome base = train_once(make_cuda_model(config, DType::kBFloat16), batch, grpo());
  emulation::set_thread_order(emulation::ThreadOrder::kLastToFirst);
  const Outcome other = train_once(make_cuda_model(config, DType::kBFloat16, true), batch, grpo(), Recompute::kFull);
  emulation::set_thread_order(emulation::ThreadOrder::kFirstToLast);
  CHECK(same_bits(base.logprobs, other.logprobs));
  CHECK(same_bits(base.gradients, other.gradients));
  CHECK(same_bits(base.weights, other.weights));
  CHECK(base.stats.loss == other.stats.loss);
}

TEST(cuda_shared_prefixes_change_no_logprob) {
  const ModelConfig config = wide_heads();
  const Batch together = small_batch(6, config.vocab_size);
  Instance made = make_cuda_model(config, DType::kBFloat16);
  Trainer trainer(*made.model, {128});
  std::vector<float> shared(together.token_ids.size()), apart(shared.size()), entropies(shared.size());
  trainer.logprobs(together.view(), 1.0f, shared.data(), entropies.data());
  for (size_t s = 0; s + 1 < together.cu_seqlens.size(); ++s) {
    const int32_t first = together.cu_seqlens[s];
    const int32_t bounds[] = {0, together.cu_seqlens[s + 1] - first};
    const PackedBatch one{bounds[1], 1, together.token_ids.data() + first, bounds, nullptr, nullptr, nullptr, nullptr};
    trainer.logprobs(one, 1.0f, apart.data() + first, entropies.data());
  }
  CHECK(same_bits(shared, apart));
}

EMULATION_TEST(cuda_passes_wait_for_the_device_when_they_read_results_alone) {
  const ModelConfig config = odd_sizes();
  const Batch batch = small_batch(4, config.vocab_size);
  Instance made = make_cuda_model(config, DType::kBFloat16, true);
  Trainer trainer(*made.model, {128});
  const auto waits = [](auto&& pass) {
    const int64_t before = cuda::num_emulated_waits();
    pass();
    return cuda::num_emulated_waits() - before;
  };
  std::vector<float> logprobs(batch.token_ids.size()), entropies(logprobs.size());
  trainer.forward_backward(batch.view(), grpo(), nullptr);  // takes the memory of training
  CHECK(waits([&] { trainer.forward_backward(batch.view(), grpo(), nullptr); }) == 1);
  CHECK(waits([&] { trainer.logprobs(batch.view(), 1.0f, logprobs.data(), entropies.data()); }) == 2);
}

TEST(cuda_steps_after_the_first_allocate_nothing) {
  const ModelConfig config = odd_sizes();
  const Batch batch = small_batch(4, config.vocab_size);
  Instance made = make_cuda_model(config, DType::kBFloat16);
  Trainer trainer(*made.model, {128});
  // The first is as small as can be: what a step takes must not hang on those before it.
  Random random(1);
  Batch small, other;
  small.add(random_tokens(random, config.vocab_size, 2), random);
  for (int i = 0; i < 20; ++i) other.add(random_tokens(random, config.vocab_size, 6), random);
  const auto step = [&](const Batch& of) {
    trainer.forward_backward(of.view(), grpo(), nullptr);
    trainer.optimizer_step(kAdamW);
    std::vector<float> logprobs(of.token_ids.size()), entropies(logprobs.size());
    trainer.logprobs(of.view(), 1.0f, logprobs.data(), entropies.data());
  };
  step(small);
  const int64_t peak = made.backend->memory_info().peak_bytes;
  cuda::set_emulated_free_bytes(0);
  step(batch);
  step(other);
  cuda::set_emulated_free_bytes(std::numeric_limits<int64_t>::max());
  CHECK(made.backend->memory_info().peak_bytes == peak);
}
