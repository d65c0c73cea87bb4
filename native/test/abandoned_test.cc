// Requests that are cancelled, abandoned or in flight when everything is closed: each ends with exactly one callback,
// and blocks, memory and what callbacks hold are given back.
#include <memory>
#include <vector>

#include "base/error.h"
#include "check.h"
#include "engine/engine.h"
#include "infer/generator.h"
#include "tiny_model.h"

using namespace tiny;

namespace {

// How often requests ended, and what their callbacks hold.
struct Ends {
  std::vector<int> count;
  std::shared_ptr<int> held = std::make_shared<int>(0);
  int64_t errors = 0, total = 0;

  GenerateRequest request(Random& random, int64_t vocab_size) {
    GenerateRequest made{};
    made.prompt_ids = std::vector<int32_t>(static_cast<size_t>(random.integer(0, 2) * 16), 3);  // shared by many
    const std::vector<int32_t> own = random_tokens(random, vocab_size, random.integer(1, 6));
    made.prompt_ids.insert(made.prompt_ids.end(), own.begin(), own.end());
    made.max_new_tokens = random.integer(1, 12);
    made.seed = count.size();
    const size_t number = count.size();
    count.push_back(0);
    made.on_token = [held = held](int32_t) {};
    made.on_done = [this, held = held, number](const Completion&) { end(number); };
    made.on_error = [this, held = held, number](std::exception_ptr) {
      end(number);
      ++errors;
    };
    return made;
  }
  void check_all_ended() const {
    CHECK(total == static_cast<int64_t>(count.size()));
    for (const int each : count) CHECK(each == 1);
    CHECK(held.use_count() == 1);
  }

 private:
  void end(size_t number) {
    ++count[number];
    ++total;
  }
};

std::exception_ptr reason() { return std::make_exception_ptr(Error(ErrorCode::kClosed, "test", "abandoned")); }

}  // namespace

TEST(ten_thousand_abandoned_requests_leave_nothing_behind) {
  constexpr int64_t kRequests = 10000;
  const Instance made = make_model(qwen3(true), 3);
  const int64_t vocab_size = made.model->config().vocab_size;
  made.model->reserve_inference(24, 96);
  const int64_t before = made.backend->memory_info().allocated_bytes;
  Random random(7);
  Ends ends;
  {
    // Room for few, so that many wait and some are preempted; drafts too.
    Generator generator(*made.backend, *made.model, {96, 160, 24, 3});
    const int64_t with_cache = made.backend->memory_info().allocated_bytes;
    uint64_t next = 0;
    while (static_cast<int64_t>(next) < kRequests) {
      for (int64_t i = random.integer(0, 8); i > 0; --i) generator.add(next++, ends.request(random, vocab_size));
      if (random.integer(0, 3) > 0 && !generator.idle()) generator.step(1);
      // Some have ended, and some are cancelled twice.
      for (int64_t i = random.integer(0, 8); i > 0; --i)
        generator.cancel(static_cast<uint64_t>(random.integer(std::max<int64_t>(0, static_cast<int64_t>(next) - 30),
                                                              static_cast<int64_t>(next))),
                         reason());
      if (random.integer(0, 200) == 0) generator.cancel_all(reason());
      if (generator.idle()) {
        CHECK(generator.stats().num_blocks_used == 0);
        if (random.integer(0, 4) == 0) generator.clear_prefix_cache();
      }
    }
    generator.cancel_all(reason());
    const GeneratorStats stats = generator.stats();
    CHECK(stats.num_blocks_used == 0 && stats.num_running == 0 && stats.num_waiting == 0);
    CHECK(stats.num_preemptions > 0);
    CHECK(made.backend->memory_info().allocated_bytes == with_cache);
  }
  CHECK(ends.errors > kRequests / 10 && ends.errors < kRequests);
  ends.check_all_ended();
  CHECK(made.backend->memory_info().allocated_bytes == before);
}

TEST(requests_in_flight_when_engines_close_leave_nothing_behind) {
  EngineOptions options;
  options.device = "cpu";
  options.num_threads = 1;
  options.config = qwen3(true);
  options.weight_dtype = DType::kFloat32;
  options.generator = {96, 160, 24};
  options.trainer = {96};
  Random random(8);
  Ends ends;
  for (int round = 0; round < 30; ++round) {
    Engine engine(options);
    engine.post([](DeviceState& state) { state.initialize(1, 0.2); }, [](std::exception_ptr) {});
    std::vector<uint64_t> keys;
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 40; ++i) requests.push_back(ends.request(random, options.config.vocab_size));
    for (GenerateRequest& request : requests) {
      keys.push_back(engine.generate(std::move(request)));
      if (random.integer(0, 3) == 0)
        engine.cancel(keys[static_cast<size_t>(random.integer(0, static_cast<int64_t>(keys.size()) - 1))]);
    }
    requests.clear();
    engine.close([] {});
    engine.join();
  }
  ends.check_all_ended();
}
