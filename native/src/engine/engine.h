// Owner of all device state: backend, model, KV cache, trainer. One thread does all the work, in the order of
// submission; queue in, callbacks out. Knows nothing of Node, files or JSON.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/device_state.h"

namespace wideseek {

class Engine {
 public:
  // Starts the thread, which builds the device state; if that fails, every operation is rejected with the reason.
  explicit Engine(EngineOptions options);
  // Closes and joins.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // All of these may be called from any thread and return at once. Callbacks run on the engine thread (on the calling
  // one after close) and must not throw.
  // Runs `work` between steps; if it throws, or will never run, calls `reject` instead.
  void post(std::function<void(DeviceState&)> work, std::function<void(std::exception_ptr)> reject);
  // Joins the running batch at the next step. Returns a key for cancel().
  uint64_t generate(GenerateRequest request);
  // The request is rejected with kClosed ("cancelled") before the next step; no effect if it has ended.
  void cancel(uint64_t key);
  // Rejects everything queued or in flight with kClosed after the step in progress; `closed` runs last. Idempotent.
  void close(std::function<void()> closed);
  // Waits for the thread to end; close() must have been called.
  void join();

 private:
  struct Operation {
    std::function<void(DeviceState&)> work;
    std::function<void(std::exception_ptr)> reject;
  };

  void run(EngineOptions options);
  void serve(DeviceState& state);
  void reject_all(std::exception_ptr reason);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;
  std::vector<std::function<void()>> on_closed_;
  bool closing_ = false;
  bool finished_ = false;
  uint64_t next_key_ = 1;
  std::once_flag joined_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace wideseek
