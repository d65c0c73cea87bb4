// One suspended call on a stack of its own: what a CUDA thread is under emulation. Owns the stack, no schedule.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>

namespace wideseek::emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets the call; it begins with the next resume().
  void start(std::function<void()> body);
  // Runs the call until it suspends or ends, and throws what it threw.
  void resume();
  bool done() const;
  // Back to whoever resumed the fiber that is running. Only inside one.
  static void suspend();

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace wideseek::emulation
