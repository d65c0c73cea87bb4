// Generation with recorded steps on the device: sampled log-probabilities are those of training to the bit, whatever
// the padding and however memory moves; what a step waits for; and where numbers that are not finite began.
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "check.h"
#include "cuda/gpu.h"
#include "device.h"
#include "infer/generator.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

// Heads of 64, for the kernels that tensor cores run.
ModelConfig wide_heads() {
  ModelConfig config = qwen3(true);
  config.hidden_size = 64;
  config.intermediate_size = 72;
  config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

struct Sample {
  std::vector<int32_t> prompt;
  Completion completion;
  bool is_done = false;
};

GenerateRequest request_for(Sample& sample, int64_t max_new_tokens, uint64_t seed) {
  GenerateRequest request{sample.prompt, max_new_tokens, seed, {}, {}, {}, {}, {}};
  request.on_done = [&sample](Completion completion) {
    sample.completion = std::move(completion);
    sample.is_done = true;
  };
  request.on_error = [](std::exception_ptr reason) { std::rethrow_exception(std::move(reason)); };
  return request;
}

// Requests that come and go, so that the number of rows passes through several recorded sizes more than once.
std::vector<Sample> generate(Generator& generator, int64_t vocab_size, uint64_t seed, int64_t count) {
  Random random(seed);
  std::vector<Sample> samples(static_cast<size_t>(count));
  for (size_t s = 0; s < samples.size(); ++s) {
    samples[s].prompt = random_tokens(random, vocab_size, random.integer(1, 24));
    if (s % 3 == 2) samples[s].prompt.insert(samples[s].prompt.begin(), 20, 4);
    generator.add(s, request_for(samples[s], random.integer(6, 14), seed + s));
    for (int64_t i = random.integer(0, 2); i > 0; --i) generator.step(1);
  }
  while (!generator.idle()) generator.step(1);
  return samples;
}

void check_on_policy(Trainer& trainer, const std::vector<Sample>& samples) {
  Random random(1);
  Batch batch;
  for (const Sample& sample : samples) {
    std::vector<int32_t> tokens = sample.prompt;
    tokens.insert(tokens.end(), sample.completion.token_ids.begin(), sample.completion.token_ids.end());
    batch.add(tokens, random);
    CHECK(sample.is_done);
  }
  std::vector<float> logprobs(batch.token_ids.size()), entropies(logprobs.size());
  trainer.logprobs(batch.view(), 1.0f, logprobs.data(), entropies.data());
  for (size_t s = 0; s < samples.size(); ++s) {
    const size_t first = static_cast<size_t>(batch.cu_seqlens[s]) + samples[s].prompt.size();
    const std::vector<float>& sampled = samples[s].completion.logprobs;
    for (size_t t = 0; t < sampled.size(); ++t) CHECK(sampled[t] == logprobs[first + t]);
  }
}

// Generation, training in the memory of the cache, which moves, other weights, and generation again.
void check_recorded_generation(const ModelConfig& config, DType dtype, int64_t count, int64_t max_drafts) {
  const Instance made = make_model_on(device::create(dtype), config, 3, dtype);
  Backend& backend = *made.backend;
  Generator generator(backend, *made.model, {64, 1024, 40, max_drafts});
  Trainer trainer(*made.model, {512}, [&](int64_t bytes) { return generator.lend_cache(bytes); });
  check_on_policy(trainer, generate(generator, config.vocab_size, 5, count));
  const int64_t before = backend.num_replays();
  CHECK(before > 0);
  const std::vector<Sample> again = generate(generator, config.vocab_size, 6, count);
  generator.lend_cache(generator.kv_cache_bytes() + (int64_t{3} << 20));
  check_on_policy(trainer, again);
  for (size_t i = 0; i < made.model->parameters().size(); ++i) {
    std::vector<float> values = read(trainer, *made.model, TensorKind::kWeight, static_cast<int64_t>(i));
    for (float& value : values) value *= 1.125f;
    trainer.write_tensor(TensorKind::kWeight, static_cast<int64_t>(i), values.data());
  }
  generator.clear_prefix_cache();
  check_on_policy(trainer, generate(generator, config.vocab_size, 5, count));
  CHECK(backend.num_replays() > before);
}

// What on_error gets when the weight `name` holds a NaN.
std::string error_with_nan(std::unique_ptr<Backend> backend, const std::string& name) {
  const ModelConfig config = odd_sizes();
  const Instance made = make_model_on(std::move(backend), config, 3, DType::kFloat32);
  for (size_t i = 0; i < made.model->parameters().size(); ++i) {
    const Parameter& parameter = made.model->parameters()[i];
    if (parameter.name != name) continue;
    std::vector<float> values(static_cast<size_t>(parameter.num_elements()));
    made.model->read_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
    values[values.size() / 2] = std::numeric_limits<float>::quiet_NaN();
    made.model->write_parameter(static_cast<int64_t>(i), values.data(), DType::kFloat32);
  }
  // Fewer rows than the prompt, so that it is looked at piece by piece.
  Generator generator(*made.backend, *made.model, {64, 256, 12});
  std::string text;
  GenerateRequest request{std::vector<int32_t>(30, 150), 4, 1, {}, {}, {}, {}, {}};
  request.on_done = [](Completion) {};
  request.on_error = [&text](std::exception_ptr reason) {
    try {
      std::rethrow_exception(std::move(reason));
    } catch (const Error& error) {
      text = error.what();
    }
  };
  generator.add(1, std::move(request));
  while (!generator.idle()) generator.step(1);
  CHECK(generator.stats().num_blocks_used == 0);
  return text;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST(device_recorded_steps_sample_the_logprobs_of_training) {
  check_recorded_generation(qwen3(true), DType::kFloat32, 7, 0);
  check_recorded_generation(wide_heads(), DType::kBFloat16, 4, 0);
}

TEST(device_recorded_steps_with_drafts_sample_the_logprobs_of_training) {
  check_recorded_generation(qwen3(true), DType::kFloat32, 6, 4);
}

TEST(device_work_is_replayed_until_its_memory_is_given_back) {
  const auto backend = device::create(DType::kFloat32);
  DeviceArray<float> out(*backend, 4);
  DeviceArray<float> source(*backend, 4);
  int calls = 0;
  const auto run = [&](float value) {
    const std::vector<float> values(4, value);
    backend->upload(source.get(), values.data(), source.bytes());
    backend->replay(7, [&] {
      ++calls;
      backend->copy(out.get(), source.get(), out.bytes());
    });
    std::vector<float> got(4);
    backend->download(got.data(), out.get(), out.bytes());
    return got[0] == value && got[3] == value;
  };
  for (int i = 0; i < 5; ++i) CHECK(run(static_cast<float>(i)));
  CHECK(calls == 2 && backend->num_replays() == 3);
  DeviceArray<float> other(*backend, 4);
  other = DeviceArray<float>();  // no recording can name it
  CHECK(run(8) && calls == 2);
  source = DeviceArray<float>();
  source = DeviceArray<float>(*backend, 4000);
  CHECK(run(9) && run(10) && run(11));
  CHECK(calls == 4);
}

TEST(device_work_that_cannot_be_recorded_runs_as_it_is) {
  const auto backend = device::create(DType::kFloat32);
  DeviceArray<float> one(*backend, 1);
  const float value = 3;
  backend->upload(one.get(), &value, one.bytes());
  for (int i = 0; i < 4; ++i) {
    double sum = 0;
    backend->replay(1, [&] { sum = backend->sum_squares(one.get(), 1); });  // it waits
    CHECK(sum == 9);
  }
  CHECK(backend->num_replays() == 0);
}

EMULATION_TEST(cuda_decode_steps_wait_once_and_allocate_nothing) {
  const Instance made = make_model_on(device::create(DType::kFloat32), qwen3(true), 3, DType::kFloat32);
  Generator generator(*made.backend, *made.model, {128, 1024, 32});
  std::vector<Sample> samples(5);
  for (size_t s = 0; s < samples.size(); ++s) {
    samples[s].prompt = std::vector<int32_t>(3 + s, static_cast<int32_t>(s));
    generator.add(s, request_for(samples[s], 40, s));
  }
  for (int i = 0; i < 4; ++i) generator.step(1);
  cuda::set_emulated_free_bytes(0);
  for (int i = 0; i < 30; ++i) {
    const int64_t waits = cuda::num_emulated_waits(), replays = made.backend->num_replays();
    generator.step(1);
    CHECK(cuda::num_emulated_waits() == waits + 1);
    CHECK(made.backend->num_replays() == replays + 1);
  }
  cuda::set_emulated_free_bytes(std::numeric_limits<int64_t>::max());
  while (!generator.idle()) generator.step(1);
}

TEST(device_logits_that_are_not_finite_name_the_layer_where_they_began) {
  const auto on_both = [](const char* weight, const char* part) {
    const std::string on_cpu = error_with_nan(create_backend("cpu", 1), weight);
    CHECK(contains(on_cpu, part));
    CHECK(error_with_nan(device::create(DType::kFloat32), weight) == on_cpu);
  };
  on_both("model.layers.1.mlp.down_proj.weight", "it began in layer 1 (model.layers.1)");
  on_both("model.layers.2.self_attn.k_norm.weight", "it began in layer 2");
  on_both("model.norm.weight", "all layers are finite, it began in the final norm or the LM head");
  on_both("model.embed_tokens.weight", "it began in the embedding");
}
