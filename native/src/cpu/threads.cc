// ThreadPool: workers spin briefly after each job, because the next layer's loop usually follows within microseconds,
// then block so that an idle process uses no CPU.
#include "cpu/threads.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/error.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace wideseek {
namespace {

constexpr uint64_t kActiveMask = 0xFFFF;
constexpr uint64_t kOpen = uint64_t{1} << 16;
constexpr int kEpochShift = 17;
constexpr int kMaxThreads = 1024;  // fits kActiveMask with room to spare
constexpr auto kSpinTime = std::chrono::microseconds(40);

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Spins until ready() or the time is over; the clock is read only now and then since it costs more than a pause.
template <typename Ready>
bool spin_until(Ready&& ready) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready();
}

int num_usable_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

struct ThreadIdentity {
  const ThreadPool* pool = nullptr;  // the pool whose job this thread is inside of
  int index = 0;
};
thread_local ThreadIdentity current;

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  WS_CHECK(num_threads >= 0 && num_threads <= kMaxThreads, kInvalidArgument, "ThreadPool",
           "num_threads is " + std::to_string(num_threads) + ", must be 0.." + std::to_string(kMaxThreads));
  if (num_threads == 0) num_threads = std::min(num_usable_cpus(), kMaxThreads);
  workers_.reserve(static_cast<size_t>(num_threads - 1));
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { worker_main(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(sleep_mutex_);
    closing_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Job& job) {
  WS_CHECK(job.count >= 0 && job.grain > 0, kInvalidArgument, "ThreadPool::parallel_for",
           "count is " + std::to_string(job.count) + ", grain is " + std::to_string(job.grain) +
               "; need count >= 0, grain > 0");
  if (job.count == 0) return;
  const bool nested = current.pool == this;
  if (nested || workers_.empty() || job.count <= job.grain) {
    std::unique_lock lock(submit_mutex_, std::defer_lock);
    if (!nested) lock.lock();  // thread_index 0 must be one thread at a time
    const ThreadIdentity outer = current;
    if (!nested) current = {this, 0};
    work(job, current.index);
    current = outer;
  } else {
    std::lock_guard lock(submit_mutex_);
    const ThreadIdentity outer = current;
    current = {this, 0};
    const uint64_t epoch = (state_.load(std::memory_order_relaxed) >> kEpochShift) + 1;
    job_.store(&job, std::memory_order_relaxed);
    // Sequentially consistent against num_sleeping_: either the worker sees the job or this thread sees the sleeper.
    state_.store((epoch << kEpochShift) | kOpen, std::memory_order_seq_cst);
    if (num_sleeping_.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard sleep_lock(sleep_mutex_); }
      if ((job.count + job.grain - 1) / job.grain > 2) {
        wake_.notify_all();
      } else {
        wake_.notify_one();
      }
    }
    work(job, 0);
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    const auto workers_left = [this] { return (state_.load(std::memory_order_acquire) & kActiveMask) == 0; };
    while (!spin_until(workers_left)) std::this_thread::yield();
    current = outer;
  }
  if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::work(Job& job, int thread_index) {
  for (;;) {
    const int64_t begin = job.next.fetch_add(job.grain, std::memory_order_relaxed);
    if (begin >= job.count) return;
    try {
      job.call(job.context, begin, std::min(begin + job.grain, job.count), thread_index);
    } catch (...) {
      std::lock_guard lock(job.error_mutex);
      if (!job.error) job.error = std::current_exception();
      job.next.store(job.count, std::memory_order_relaxed);
    }
  }
}

ThreadPool::Job* ThreadPool::join_next(uint64_t& last_epoch) {
  const auto joinable = [&](uint64_t state) { return (state & kOpen) != 0 && (state >> kEpochShift) != last_epoch; };
  const auto ready = [&] {
    return joinable(state_.load(std::memory_order_acquire)) || closing_.load(std::memory_order_relaxed);
  };
  for (;;) {
    if (!spin_until(ready)) {
      std::unique_lock lock(sleep_mutex_);
      num_sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return joinable(state_.load(std::memory_order_seq_cst)) || closing_.load(); });
      num_sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (closing_.load()) return nullptr;
    uint64_t state = state_.load(std::memory_order_acquire);
    while (joinable(state)) {
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        last_epoch = state >> kEpochShift;
        return job_.load(std::memory_order_relaxed);  // stays valid: the caller waits for everyone who joined
      }
    }
  }
}

void ThreadPool::worker_main(int thread_index) {
  current = {this, thread_index};
  uint64_t last_epoch = 0;
  while (Job* job = join_next(last_epoch)) {
    work(*job, thread_index);
    state_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

}  // namespace wideseek
