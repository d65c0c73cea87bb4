// The schedule of one block: every warp runs until its threads wait for other warps; when all wait, the barriers that
// are complete open.
#include "cuda/emulation/emulation.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cuda/emulation/async_proxy.h"
#include "cuda/emulation/fiber.h"

namespace wideseek::emulation {
namespace {

constexpr int kWarp = 32;

struct AsyncCopy {
  void* shared;
  const void* global;
  int bytes, valid_bytes;
};

enum class Wait { kNone, kWarp, kBlock, kCondition };
constexpr int kNamedBarriers = 16;

struct NamedBarrier {
  int arrived = 0;
  int64_t opened = 0;  // how often
};

struct Thread {
  Fiber fiber;
  uint3 index{};
  int number = 0;
  Wait wait = Wait::kNone;
  std::function<bool()> condition;
  std::deque<std::vector<AsyncCopy>> copies;  // committed groups, then the open one
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;  // reused by the next block
  int num_threads = 0;
  int64_t number = 0;
  NamedBarrier named[kNamedBarriers];
  std::vector<std::byte> exchange, shared;
};

Block block;
Thread* current = nullptr;
ThreadOrder thread_order = ThreadOrder::kFirstToLast;
int capability = 9;
std::optional<std::vector<std::function<void()>>> recorded;  // while a recording is on

void wait(Wait what) {
  current->wait = what;
  Thread* const self = current;
  Fiber::suspend();
  current = self;
}

Thread& thread(int i) { return *block.threads[static_cast<size_t>(i)]; }

// Opens the barrier `what` if all threads for which belongs(thread) holds wait for it.
template <typename F>
bool open_if_complete(Wait what, F&& belongs) {
  int live = 0, waiting = 0;
  for (int i = 0; i < block.num_threads; ++i) {
    const Thread& t = thread(i);
    if (t.fiber.done() || !belongs(t)) continue;
    ++live;
    waiting += t.wait == what;
  }
  if (waiting == 0 || waiting != live) return false;
  for (int i = 0; i < block.num_threads; ++i) {
    Thread& t = thread(i);
    if (!t.fiber.done() && t.wait == what && belongs(t)) t.wait = Wait::kNone;
  }
  return true;
}

bool any_condition_holds() {
  for (int i = 0; i < block.num_threads; ++i) {
    Thread& t = thread(i);
    if (!t.fiber.done() && t.wait == Wait::kCondition && t.condition()) return true;
  }
  return false;
}

NamedBarrier& arrive_at(int id, int count) {
  NamedBarrier& barrier = block.named[id];
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    ++barrier.opened;
  }
  return barrier;
}

// Runs the threads of one warp until all of them have ended or wait for other warps: as far ahead of these as a warp
// can ever be, so that a missing barrier of the block shows.
void run_warp(int warp) {
  const int first = warp * kWarp, count = std::min(kWarp, block.num_threads - first);
  bool progress = true;
  while (progress) {
    progress = false;
    for (int i = 0; i < count; ++i) {
      Thread& t = thread(first + (thread_order == ThreadOrder::kFirstToLast ? i : count - 1 - i));
      if (t.fiber.done()) continue;
      if (t.wait == Wait::kCondition && t.condition()) t.wait = Wait::kNone;
      if (t.wait != Wait::kNone) continue;
      current = &t;
      threadIdx = t.index;
      t.fiber.resume();
      progress = true;
    }
    progress |= open_if_complete(Wait::kWarp, [warp](const Thread& t) { return t.number / kWarp == warp; });
  }
}

void run_block(const std::function<void()>& body) {
  ++block.number;
  std::fill(std::begin(block.named), std::end(block.named), NamedBarrier{});
  for (int i = 0; i < block.num_threads; ++i) {
    thread(i).wait = Wait::kNone;
    thread(i).copies.clear();
    thread(i).copies.emplace_back();
    thread(i).fiber.start(body);
  }
  std::fill(block.shared.begin(), block.shared.end(), std::byte{0xff});
  const int num_warps = (block.num_threads + kWarp - 1) / kWarp;
  do {
    for (int i = 0; i < num_warps; ++i) run_warp(thread_order == ThreadOrder::kFirstToLast ? i : num_warps - 1 - i);
  } while (open_if_complete(Wait::kBlock, [](const Thread&) { return true; }) || any_condition_holds());
  for (int i = 0; i < block.num_threads; ++i) {
    WS_CHECK(thread(i).fiber.done(), kInternal, "emulation", "threads of one block wait for different barriers");
  }
}

}  // namespace

void set_thread_order(ThreadOrder order) { thread_order = order; }
ThreadOrder current_thread_order() { return thread_order; }
void set_compute_capability(int major) { capability = major; }
int compute_capability() { return capability; }

void run_grid(dim3 grid, dim3 block_size, int64_t shared_bytes, const std::function<void()>& body) {
  const auto count = static_cast<int>(block_size.x * block_size.y * block_size.z);
  WS_CHECK(count >= 1 && count <= 1024, kInternal, "emulation", "blocks have 1 to 1024 threads");
  WS_CHECK(shared_bytes <= 227 * 1024, kInternal, "emulation",
           "a block has at most 227 KiB of shared memory, got " + std::to_string(shared_bytes));
  block.num_threads = count;
  while (static_cast<int>(block.threads.size()) < count) block.threads.push_back(std::make_unique<Thread>());
  block.exchange.resize(static_cast<size_t>((count + kWarp - 1) / kWarp * kWarp * kExchangeBytes));
  block.shared.resize(static_cast<size_t>(shared_bytes) + 1024);
  gridDim = grid;
  blockDim = block_size;
  for (int i = 0; i < count; ++i) {
    const auto n = static_cast<unsigned>(i);
    thread(i).number = i;
    thread(i).index = {n % block_size.x, n / block_size.x % block_size.y, n / (block_size.x * block_size.y)};
  }
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block(body);
      }
    }
  }
}

void give(std::function<void()> work) {
  if (recorded) {
    recorded->push_back(std::move(work));
  } else {
    work();
  }
}
void begin_recording() { recorded.emplace(); }
std::vector<std::function<void()>> end_recording() {
  auto all = recorded ? std::move(*recorded) : std::vector<std::function<void()>>();
  recorded.reset();
  return all;
}
bool is_recording() { return recorded.has_value(); }

std::byte* dynamic_shared() {
  const auto first = reinterpret_cast<uintptr_t>(block.shared.data());
  return reinterpret_cast<std::byte*>((first + 1023) & ~uintptr_t{1023});
}
void block_barrier() { wait(Wait::kBlock); }
void warp_barrier() { wait(Wait::kWarp); }
void named_barrier(int id, int count) {
  const NamedBarrier& barrier = block.named[id];
  const int64_t opened = barrier.opened;
  arrive_at(id, count);
  wait_until([&barrier, opened] { return barrier.opened > opened; });
}
void named_arrive(int id, int count) { arrive_at(id, count); }
void wait_until(std::function<bool()> condition) {
  if (condition()) return;
  current->condition = std::move(condition);
  wait(Wait::kCondition);
}
int thread_number() { return current->number; }
int64_t block_number() { return block.number; }
int64_t dynamic_shared_bytes() { return static_cast<int64_t>(block.shared.size()) - 1024; }
int lane() { return current->number % kWarp; }
std::byte* exchange(int lane) {
  return block.exchange.data() + (current->number / kWarp * kWarp + lane) * kExchangeBytes;
}

void copy_async(void* shared, const void* global, int bytes, int valid_bytes) {
  current->copies.back().push_back({shared, global, bytes, valid_bytes});
}
void commit_copies() { current->copies.emplace_back(); }
void wait_copies(int newest_groups_left) {
  // The last entry is the open group.
  while (static_cast<int>(current->copies.size()) - 1 > newest_groups_left) {
    for (const AsyncCopy& copy : current->copies.front()) {
      std::memcpy(copy.shared, copy.global, static_cast<size_t>(copy.valid_bytes));
      std::memset(static_cast<std::byte*>(copy.shared) + copy.valid_bytes, 0,
                  static_cast<size_t>(copy.bytes - copy.valid_bytes));
      note_ordinary_store(static_cast<std::byte*>(copy.shared), copy.bytes);
    }
    current->copies.pop_front();
  }
}

}  // namespace wideseek::emulation
