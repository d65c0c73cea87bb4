// Stack switching: by hand where the calling convention is known, a few nanoseconds a switch, else by ucontext.
#include "cuda/emulation/fiber.h"

#include <cstdint>
#include <utility>
#include <vector>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#define WS_SWITCH_BY_HAND 1
#else
#include <ucontext.h>
#endif

namespace wideseek::emulation {
namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

#if defined(WS_SWITCH_BY_HAND)

using Context = void*;  // top of a stack on which the callee-saved registers lie

// Saves the callee-saved registers on this stack, leaves its top in *from, and returns on the stack `to`.
extern "C" void wideseek_switch_stack(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.globl wideseek_switch_stack
.hidden wideseek_switch_stack
.type wideseek_switch_stack, @function
wideseek_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size wideseek_switch_stack, . - wideseek_switch_stack
)");
// Above the six registers. After the first return the stack is 8 off a multiple of 16, as after a call.
constexpr size_t kReturnWord = 6;
#else
asm(R"(
.text
.globl wideseek_switch_stack
.hidden wideseek_switch_stack
.type wideseek_switch_stack, %function
wideseek_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size wideseek_switch_stack, . - wideseek_switch_stack
)");
constexpr size_t kReturnWord = 11;  // x30
#endif

Context make_context(std::vector<std::byte>& stack, void (*entry)()) {
  const auto end = reinterpret_cast<uintptr_t>(stack.data() + stack.size()) & ~uintptr_t{63};
  auto* frame = reinterpret_cast<uintptr_t*>(end) - 32;  // a multiple of 64 bytes
  for (size_t i = 0; i < 32; ++i) frame[i] = 0;
  frame[kReturnWord] = reinterpret_cast<uintptr_t>(entry);
  return frame;
}

void switch_context(Context& from, Context& to) { wideseek_switch_stack(&from, to); }

#else

using Context = ucontext_t;

Context make_context(std::vector<std::byte>& stack, void (*entry)()) {
  Context context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack.data();
  context.uc_stack.ss_size = stack.size();
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  return context;
}

void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }

#endif

}  // namespace

struct Fiber::State {
  std::vector<std::byte> stack = std::vector<std::byte>(kStackBytes);
  std::function<void()> body;
  std::exception_ptr failure;
  Context own{};
  Context resumer{};
  bool done = true;
};

namespace {

Fiber::State* running = nullptr;

void run() {
  Fiber::State& state = *running;
  try {
    state.body();
  } catch (...) {
    state.failure = std::current_exception();
  }
  state.done = true;
  Fiber::suspend();
}

}  // namespace

Fiber::Fiber() : state_(std::make_unique<State>()) {}
Fiber::~Fiber() = default;

void Fiber::start(std::function<void()> body) {
  state_->body = std::move(body);
  state_->failure = nullptr;
  state_->done = false;
  state_->own = make_context(state_->stack, &run);
}

void Fiber::resume() {
  State* const outer = std::exchange(running, state_.get());
  switch_context(state_->resumer, state_->own);
  running = outer;
  if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
}

void Fiber::suspend() { switch_context(running->own, running->resumer); }

bool Fiber::done() const { return state_->done; }

}  // namespace wideseek::emulation
