// The generator: what it gives depends on each request alone, not on guesses, on the batch or on the room in the cache.
#include "infer/generator.h"

#include <vector>

#include "check.h"
#include "device.h"
#include "tiny_model.h"

namespace {

using namespace wideseek;

// Prompts that share a beginning and repeat themselves, as agents' contexts do.
std::vector<GenerateRequest> requests(uint64_t count, int32_t vocab_size) {
  const std::vector<SamplingSettings> settings{
      {},
      {.temperature = 0},
      {.temperature = 0.5f, .top_p = 0.9f},
      {.temperature = 0.3f, .top_k = 3, .min_p = 0.01f},
      {.temperature = 0.4f, .repetition_penalty = 1.1f},
  };
  std::vector<GenerateRequest> all;
  for (uint64_t r = 0; r < count; ++r) {
    GenerateRequest request{};
    for (uint64_t i = 0; i < 20 + r; ++i)
      request.prompt_ids.push_back(static_cast<int32_t>(i % 7 + (i > 30 ? r : 0)) % vocab_size);
    request.max_new_tokens = 1 + static_cast<int64_t>(r * 13 % 60);
    request.seed = r;
    request.sampling = settings[r % settings.size()];
    if (r % 3 == 0) request.stop_token_ids = {5};
    all.push_back(std::move(request));
  }
  return all;
}

struct Result {
  std::vector<Completion> completions;
  std::vector<std::vector<int32_t>> streamed;
  GeneratorStats stats;
};

Result generate(std::unique_ptr<Backend> backend, uint64_t count, const GeneratorOptions& options) {
  const tiny::Instance made = tiny::make_model_on(std::move(backend), tiny::qwen3(true), 3, DType::kFloat32);
  Generator generator(*made.backend, *made.model, options);
  Result result;
  std::vector<GenerateRequest> all = requests(count, static_cast<int32_t>(made.model->config().vocab_size));
  result.completions.resize(all.size());
  result.streamed.resize(all.size());
  for (size_t r = 0; r < all.size(); ++r) {
    all[r].on_token = [&result, r](int32_t token) { result.streamed[r].push_back(token); };
    all[r].on_done = [&result, r](Completion completion) { result.completions[r] = std::move(completion); };
    all[r].on_error = [](std::exception_ptr reason) { std::rethrow_exception(std::move(reason)); };
    generator.add(r, std::move(all[r]));
    if (r % 4 == 3) generator.step(1);  // others arrive while it runs
  }
  while (!generator.idle()) generator.step(1);
  result.stats = generator.stats();
  CHECK(result.stats.num_blocks_used == 0);
  return result;
}

void check_same(const Result& got, const Result& want) {
  for (size_t r = 0; r < want.completions.size(); ++r) {
    CHECK(got.completions[r].token_ids == want.completions[r].token_ids);
    CHECK(got.completions[r].logprobs == want.completions[r].logprobs);
    CHECK(got.completions[r].finish_reason == want.completions[r].finish_reason);
    CHECK(got.streamed[r] == want.completions[r].token_ids);
  }
}

}  // namespace

TEST(generator_gives_the_same_with_drafts) {
  const Result plain = generate(create_backend("cpu", 1), 24, {128, 4096, 256, 0});
  CHECK(plain.stats.num_draft_tokens == 0);
  const Result drafted = generate(create_backend("cpu", 1), 24, {128, 4096, 256, 16});
  check_same(drafted, plain);
  CHECK(drafted.stats.num_right_drafts > 30);
  CHECK(drafted.stats.num_right_drafts < drafted.stats.num_draft_tokens);
  CHECK(drafted.stats.num_steps < plain.stats.num_steps);
  // Little room: preemptions, and drafts that do not fit.
  const Result crowded = generate(create_backend("cpu", 2), 24, {128, 160, 20, 16});
  check_same(crowded, plain);
  CHECK(crowded.stats.num_preemptions > 0 && crowded.stats.num_right_drafts > 0);
}

TEST(device_generator_gives_the_same_with_drafts) {
  const Result plain = generate(device::create(DType::kFloat32), 5, {128, 4096, 256, 0});
  check_same(generate(device::create(DType::kFloat32), 5, {128, 160, 20, 16}), plain);
}
