// The schedule of one block: every warp runs until its threads wait for other warps; when all wait, the barriers that
// are complete open.
#include "cuda/emulation/emulation.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "cuda/emulation/fiber.h"

namespace wideseek::emulation {
namespace {

constexpr int kWarp = 32;

struct AsyncCopy {
  void* shared;
  const void* global;
  int bytes, valid_bytes;
};

enum class Wait { kNone, kWarp, kBlock, kNamed };

struct Thread {
  Fiber fiber;
  uint3 index{};
  int number = 0;
  Wait wait = Wait::kNone;
  int barrier_id = 0, barrier_count = 0;
  std::deque<std::vector<AsyncCopy>> copies;  // committed groups, then the open one
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;  // reused by the next block
  int num_threads = 0;
  std::vector<std::byte> exchange, shared;
};

Block block;
Thread* current = nullptr;
ThreadOrder thread_order = ThreadOrder::kFirstToLast;

void wait(Wait what) {
  current->wait = what;
  Thread* const self = current;
  Fiber::suspend();
  current = self;
}

Thread& thread(int i) { return *block.threads[static_cast<size_t>(i)]; }

// Opens the barrier `what` if all threads for which belongs(thread) holds, or `needed` of them, wait for it.
template <typename F>
bool open_if_complete(Wait what, int needed, F&& belongs) {
  int live = 0, waiting = 0;
  for (int i = 0; i < block.num_threads; ++i) {
    const Thread& t = thread(i);
    if (t.fiber.done() || !belongs(t)) continue;
    ++live;
    waiting += t.wait == what;
  }
  if (waiting == 0 || waiting != (needed > 0 ? needed : live)) return false;
  for (int i = 0; i < block.num_threads; ++i) {
    Thread& t = thread(i);
    if (!t.fiber.done() && t.wait == what && belongs(t)) t.wait = Wait::kNone;
  }
  return true;
}

bool open_block_barriers() {
  bool opened = open_if_complete(Wait::kBlock, 0, [](const Thread&) { return true; });
  for (int id = 0; id < 16; ++id) {
    const auto waits_here = [id](const Thread& t) { return t.wait == Wait::kNamed && t.barrier_id == id; };
    int needed = 0;
    for (int i = 0; i < block.num_threads; ++i) needed = waits_here(thread(i)) ? thread(i).barrier_count : needed;
    opened |= needed > 0 && open_if_complete(Wait::kNamed, needed, waits_here);
  }
  return opened;
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
      if (t.fiber.done() || t.wait != Wait::kNone) continue;
      current = &t;
      threadIdx = t.index;
      t.fiber.resume();
      progress = true;
    }
    progress |= open_if_complete(Wait::kWarp, 0, [warp](const Thread& t) { return t.number / kWarp == warp; });
  }
}

void run_block(const std::function<void()>& body) {
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
  } while (open_block_barriers());
  for (int i = 0; i < block.num_threads; ++i) {
    WS_CHECK(thread(i).fiber.done(), kInternal, "emulation", "threads of one block wait for different barriers");
  }
}

}  // namespace

void set_thread_order(ThreadOrder order) { thread_order = order; }

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

std::byte* dynamic_shared() {
  const auto first = reinterpret_cast<uintptr_t>(block.shared.data());
  return reinterpret_cast<std::byte*>((first + 1023) & ~uintptr_t{1023});
}
void block_barrier() { wait(Wait::kBlock); }
void warp_barrier() { wait(Wait::kWarp); }
void named_barrier(int id, int count) {
  current->barrier_id = id;
  current->barrier_count = count;
  wait(Wait::kNamed);
}
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
    }
    current->copies.pop_front();
  }
}

}  // namespace wideseek::emulation
