// The engine thread without Node: order, cancellation, failure and close, each with an exact count of callbacks.
#include "engine/engine.h"

#include <atomic>
#include <future>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "test/check.h"

namespace {

using namespace wideseek;

EngineOptions small_engine() {
  EngineOptions options;
  options.device = "cpu";
  options.num_threads = 2;
  options.config = {97, 32, 64, 2, 4, 2, 8, 256, 1e-6, 10000, std::nullopt, true, false, true};
  options.weight_dtype = DType::kFloat32;
  options.generator = {128, 256, 32};
  options.trainer = {256};
  return options;
}

ErrorCode code_of(std::exception_ptr reason) {
  try {
    std::rethrow_exception(std::move(reason));
  } catch (const Error& error) {
    return error.code();
  } catch (...) {
    return ErrorCode::kInternal;
  }
}

// How one request ended.
struct Outcome {
  std::promise<void> ended;
  std::atomic<int> num_callbacks{0};
  Completion completion;
  std::exception_ptr error;
};

GenerateRequest request(Outcome& outcome, int64_t max_new_tokens, uint64_t seed = 1) {
  GenerateRequest request{{1, 2, 3, 4, 5}, max_new_tokens, seed, {}, {}, {}, {}, {}};
  request.on_done = [&outcome](Completion completion) {
    outcome.completion = std::move(completion);
    if (++outcome.num_callbacks == 1) outcome.ended.set_value();
  };
  request.on_error = [&outcome](std::exception_ptr reason) {
    outcome.error = std::move(reason);
    if (++outcome.num_callbacks == 1) outcome.ended.set_value();
  };
  return request;
}

// Runs work on the engine thread and waits; returns its error, or null.
std::exception_ptr run(Engine& engine, std::function<void(DeviceState&)> work) {
  std::promise<std::exception_ptr> done;
  engine.post(
      [&](DeviceState& state) {
        work(state);
        done.set_value(nullptr);
      },
      [&](std::exception_ptr reason) { done.set_value(std::move(reason)); });
  return done.get_future().get();
}

}  // namespace

TEST(engine_generates_and_counts) {
  Engine engine(small_engine());
  CHECK(run(engine, [](DeviceState& state) { state.initialize(1, 0.2); }) == nullptr);
  Outcome a, b;
  engine.generate(request(a, 20));
  engine.generate(request(b, 20));
  a.ended.get_future().wait();
  b.ended.get_future().wait();
  CHECK(a.error == nullptr && a.completion.token_ids.size() == 20 && a.completion.logprobs.size() == 20);
  CHECK(a.completion.token_ids == b.completion.token_ids);
  CHECK(a.completion.finish_reason == FinishReason::kLength);
  EngineStats stats;
  run(engine, [&](DeviceState& state) { stats = state.stats(); });
  CHECK(stats.generator.num_generated_tokens == 40);
  CHECK(stats.generator.num_blocks_used == 0);
  // What training will take is planned, and not taken yet.
  CHECK(stats.memory.training > 0);
  CHECK(stats.memory.allocated == stats.memory.weights + stats.memory.kv_cache + stats.memory.inference);
}

TEST(engine_gives_the_cache_what_training_leaves) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  // 4B: 147,456 bytes a token, an activation pass of 10 GiB.
  const int64_t tokens = tokens_that_fit(60 * kGiB, 10 * kGiB, 147456, 32000);
  CHECK(tokens > 400000 && tokens * 147456 < 59 * kGiB);
  CHECK_THROWS(tokens_that_fit(10 * kGiB, 10 * kGiB, 147456, 32000));  // no pass fits
  CHECK_THROWS(tokens_that_fit(4 * kGiB, 1, 147456, 32000));           // no context fits
  CHECK_THROWS(tokens_that_fit(-kGiB, 1, 147456, 32000));
}

TEST(engine_lends_the_memory_of_the_cache_to_training) {
  EngineOptions options = small_engine();
  options.generator.kv_cache_tokens = 4096;
  Engine engine(options);
  CHECK(run(engine, [](DeviceState& state) { state.initialize(1, 0.2); }) == nullptr);
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> cu_seqlens{0, 8};
  const std::vector<float> weights{0, 1, 1, 1, 1, 1, 1, 1};
  const auto generate = [&] {
    Outcome outcome;
    engine.generate(request(outcome, 30));
    outcome.ended.get_future().wait();
    CHECK(outcome.error == nullptr);
    return std::pair{outcome.completion.token_ids, outcome.completion.logprobs};
  };
  const auto before = generate();
  EngineStats stats;
  CHECK(run(engine, [&](DeviceState& state) {
          const PackedBatch batch{8, 1, tokens.data(), cu_seqlens.data(), weights.data(), nullptr, nullptr, nullptr};
          state.forward_backward(batch, {LossKind::kNll, 1, 0, 0, 0, 0});
          stats = state.stats();
        }) == nullptr);
  CHECK(stats.generator.num_blocks_cached == 0);  // it held activations
  CHECK(stats.memory.allocated ==
        stats.memory.weights + stats.memory.kv_cache + stats.memory.inference + stats.memory.training);
  CHECK(generate() == before);
}

TEST(engine_refuses_training_while_generating) {
  Engine engine(small_engine());
  run(engine, [](DeviceState& state) { state.initialize(1, 0.2); });
  Outcome outcome;
  engine.generate(request(outcome, 100));
  const std::exception_ptr error = run(engine, [](DeviceState& state) {
    state.optimizer_step({1e-3, 1, 0.9, 0.999, 1e-8, 0});
  });
  CHECK(error != nullptr && code_of(error) == ErrorCode::kInvalidState);
  outcome.ended.get_future().wait();
  CHECK(outcome.error == nullptr);
  CHECK(run(engine, [](DeviceState& state) { state.optimizer_step({1e-3, 1, 0.9, 0.999, 1e-8, 0}); }) == nullptr);
}

TEST(engine_trains_between_the_steps_of_a_generation_with_the_results_of_apart) {
  EngineOptions options = small_engine();
  options.train_while_generating = true;
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> cu_seqlens{0, 8};
  const std::vector<float> weights{0, 1, 1, 1, 1, 1, 1, 1};
  const PackedBatch batch{8, 1, tokens.data(), cu_seqlens.data(), weights.data(), nullptr, nullptr, nullptr};
  // Losses, tokens, log-probabilities and gradients.
  const auto results = [&](bool together) {
    Engine engine(options);
    CHECK(run(engine, [](DeviceState& state) { state.initialize(1, 0.2); }) == nullptr);
    Outcome outcome;
    engine.generate(request(outcome, 60));
    if (!together) outcome.ended.get_future().wait();
    std::vector<double> losses;
    bool was_idle = true;
    for (int pass = 0; pass < 3; ++pass) {
      CHECK(run(engine, [&](DeviceState& state) {
              was_idle = state.generator().idle();
              losses.push_back(state.forward_backward(batch, {LossKind::kNll, 1, 0, 0, 0, 0}).loss);
            }) == nullptr);
      if (pass == 0) CHECK(was_idle != together);
    }
    if (together) outcome.ended.get_future().wait();
    CHECK(outcome.error == nullptr);
    std::vector<float> gradient(97 * 32);
    EngineStats stats;
    CHECK(run(engine, [&](DeviceState& state) {
            state.read_tensor(TensorKind::kGradient, 0, gradient.data());
            stats = state.stats();
          }) == nullptr);
    CHECK(stats.memory.allocated ==
          stats.memory.weights + stats.memory.kv_cache + stats.memory.inference + stats.memory.training);
    CHECK(stats.training_seconds > 0 && stats.generator.forward_seconds > 0);
    return std::tuple{losses, outcome.completion.token_ids, outcome.completion.logprobs, gradient};
  };
  CHECK(results(true) == results(false));
}

TEST(engine_cancels_one_request_only) {
  Engine engine(small_engine());
  run(engine, [](DeviceState& state) { state.initialize(1, 0.2); });
  Outcome cancelled, kept;
  const uint64_t key = engine.generate(request(cancelled, 100));
  engine.generate(request(kept, 100));
  engine.cancel(key);
  engine.cancel(key);
  engine.cancel(123456);
  cancelled.ended.get_future().wait();
  kept.ended.get_future().wait();
  CHECK(cancelled.error != nullptr && code_of(cancelled.error) == ErrorCode::kClosed);
  CHECK(kept.error == nullptr && kept.completion.token_ids.size() == 100);
  int64_t used = -1;
  run(engine, [&](DeviceState& state) { used = state.stats().generator.num_blocks_used; });
  CHECK(used == 0);
}

TEST(engine_close_ends_every_request_exactly_once) {
  std::vector<std::unique_ptr<Outcome>> outcomes;
  int num_closed = 0;
  {
    Engine engine(small_engine());
    run(engine, [](DeviceState& state) { state.initialize(1, 0.2); });
    for (int i = 0; i < 40; ++i) {
      outcomes.push_back(std::make_unique<Outcome>());
      engine.generate(request(*outcomes.back(), 100, static_cast<uint64_t>(i)));
    }
    engine.close([&] { ++num_closed; });
    engine.close([&] { ++num_closed; });
    engine.join();
    CHECK(num_closed == 2);
    const std::exception_ptr error = run(engine, [](DeviceState&) {});
    CHECK(error != nullptr && code_of(error) == ErrorCode::kClosed);
    engine.close([&] { ++num_closed; });
    CHECK(num_closed == 3);
  }
  for (const auto& outcome : outcomes) {
    CHECK(outcome->num_callbacks == 1);
    if (outcome->error) CHECK(code_of(outcome->error) == ErrorCode::kClosed);
  }
}

TEST(engine_reports_why_it_could_not_start) {
  EngineOptions options = small_engine();
  options.device = "abacus";
  Engine engine(options);
  const std::exception_ptr error = run(engine, [](DeviceState&) {});
  CHECK(error != nullptr && code_of(error) == ErrorCode::kInvalidArgument);
  Outcome outcome;
  engine.generate(request(outcome, 1));
  outcome.ended.get_future().wait();
  CHECK(outcome.error != nullptr);
}

TEST(engine_rejects_bad_requests_and_goes_on) {
  Engine engine(small_engine());
  run(engine, [](DeviceState& state) { state.initialize(1, 0.2); });
  const auto reject = [&](auto change, ErrorCode code) {
    Outcome outcome;
    GenerateRequest bad = request(outcome, 10);
    change(bad);
    engine.generate(std::move(bad));
    outcome.ended.get_future().wait();
    CHECK(outcome.error != nullptr && code_of(outcome.error) == code);
  };
  reject([](GenerateRequest& bad) { bad.prompt_ids.clear(); }, ErrorCode::kInvalidArgument);
  reject([](GenerateRequest& bad) { bad.prompt_ids[2] = 97; }, ErrorCode::kInvalidArgument);
  reject([](GenerateRequest& bad) { bad.prompt_ids[2] = -1; }, ErrorCode::kInvalidArgument);
  reject([](GenerateRequest& bad) { bad.max_new_tokens = 0; }, ErrorCode::kInvalidArgument);
  reject([](GenerateRequest& bad) { bad.max_new_tokens = INT64_MAX; }, ErrorCode::kInvalidArgument);
  reject([](GenerateRequest& bad) { bad.sampling.top_p = 2; }, ErrorCode::kInvalidArgument);
  Outcome fine;
  engine.generate(request(fine, 10));
  fine.ended.get_future().wait();
  CHECK(fine.error == nullptr);
}

TEST(engine_says_which_request_can_never_fit) {
  EngineOptions options = small_engine();
  options.generator.kv_cache_tokens = 32;
  Engine engine(options);
  run(engine, [](DeviceState& state) { state.initialize(1, 0.2); });
  Outcome large, small;
  engine.generate(request(large, 60));
  engine.generate(request(small, 20));
  large.ended.get_future().wait();
  small.ended.get_future().wait();
  CHECK(large.error != nullptr && code_of(large.error) == ErrorCode::kOutOfMemory);
  CHECK(small.error == nullptr);
}

TEST(engine_names_weights_that_give_nan) {
  Engine engine(small_engine());
  run(engine, [](DeviceState& state) {
    state.initialize(1, 0.2);
    const Parameter& norm = state.model().parameters().back();
    const std::vector<float> nan(static_cast<size_t>(norm.num_elements()), NAN);
    state.write_parameter(static_cast<int64_t>(state.model().parameters().size()) - 1, nan.data(), DType::kFloat32);
  });
  Outcome outcome;
  engine.generate(request(outcome, 10));
  outcome.ended.get_future().wait();
  CHECK(outcome.error != nullptr && code_of(outcome.error) == ErrorCode::kInternal);
}
