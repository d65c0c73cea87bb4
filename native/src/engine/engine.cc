// The engine thread: drains the queue, then runs one generation step, until closed.
#include "engine/engine.h"

#include <optional>
#include <utility>

#include "base/error.h"

namespace wideseek {
namespace {

std::exception_ptr closed_error(const char* message) {
  return std::make_exception_ptr(Error(ErrorCode::kClosed, "engine", message));
}

}  // namespace

Engine::Engine(EngineOptions options) : thread_([this, options = std::move(options)] { run(options); }) {}

Engine::~Engine() {
  close([] {});
  join();
}

void Engine::post(std::function<void(DeviceState&)> work, std::function<void(std::exception_ptr)> reject) {
  {
    const std::lock_guard lock(mutex_);
    if (!closing_) {
      queue_.push_back({std::move(work), std::move(reject)});
      wake_.notify_one();
      return;
    }
  }
  reject(closed_error("the engine is closed"));
}

uint64_t Engine::generate(GenerateRequest request) {
  uint64_t key = 0;
  {
    const std::lock_guard lock(mutex_);
    key = next_key_++;
  }
  auto shared = std::make_shared<GenerateRequest>(std::move(request));
  post([shared, key](DeviceState& state) { state.generator().add(key, *shared); },
       [shared](std::exception_ptr reason) { shared->on_error(std::move(reason)); });
  return key;
}

void Engine::cancel(uint64_t key) {
  post([key](DeviceState& state) { state.generator().cancel(key, closed_error("the request was cancelled")); },
       [](std::exception_ptr) {});  // closing rejects the request itself
}

void Engine::close(std::function<void()> closed) {
  {
    const std::lock_guard lock(mutex_);
    if (!finished_) {
      closing_ = true;
      on_closed_.push_back(std::move(closed));
      wake_.notify_one();
      return;
    }
  }
  closed();
}

void Engine::join() {
  std::call_once(joined_, [this] { thread_.join(); });
}

void Engine::run(EngineOptions options) {
  std::exception_ptr failure;
  {
    std::optional<DeviceState> state;
    try {
      state.emplace(options);
    } catch (...) {
      failure = std::current_exception();
    }
    if (state) {
      try {
        serve(*state);
      } catch (...) {  // only a lost device ends service early
        failure = std::current_exception();
      }
      state->generator().cancel_all(failure ? failure : closed_error("the engine was closed"));
    }
  }
  reject_all(failure ? failure : closed_error("the engine was closed"));
}

void Engine::serve(DeviceState& state) {
  while (true) {
    std::deque<Operation> operations;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return closing_ || !queue_.empty() || !state.generator().idle(); });
      if (closing_) return;
      operations.swap(queue_);
    }
    while (!operations.empty()) {
      Operation operation = std::move(operations.front());
      operations.pop_front();
      try {
        operation.work(state);
      } catch (const Error& error) {
        operation.reject(std::current_exception());
        if (error.code() != ErrorCode::kDeviceLost) continue;
        const std::lock_guard lock(mutex_);
        for (auto rest = operations.rbegin(); rest != operations.rend(); ++rest) queue_.push_front(std::move(*rest));
        throw;
      } catch (...) {
        operation.reject(std::current_exception());
      }
    }
    if (state.generator().idle()) continue;
    try {
      state.generator().step(state.policy_version());
    } catch (const Error& error) {
      // The requests of the step have been rejected with it.
      if (error.code() == ErrorCode::kDeviceLost) throw;
    } catch (const std::exception&) {
    }
  }
}

// Rejects what is queued now and whatever comes, until closed.
void Engine::reject_all(std::exception_ptr reason) {
  std::unique_lock lock(mutex_);
  while (true) {
    while (!queue_.empty()) {
      Operation operation = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      operation.reject(reason);
      lock.lock();
    }
    if (closing_) break;
    wake_.wait(lock, [&] { return closing_ || !queue_.empty(); });
  }
  finished_ = true;
  std::vector<std::function<void()>> callbacks = std::move(on_closed_);
  lock.unlock();
  for (const auto& callback : callbacks) callback();
}

}  // namespace wideseek
