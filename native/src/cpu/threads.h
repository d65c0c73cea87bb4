// A small pool of worker threads for data-parallel loops inside one process.
// Work is handed out in fixed chunks, so a loop whose chunks write disjoint outputs gives the same bits for any thread
// count.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace wideseek {

class ThreadPool {
 public:
  // num_threads counts the caller: num_threads - 1 workers are started. 0 means one per CPU the process may use.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(begin, end, thread_index) over [0, count) in chunks of `grain` (the last may be shorter) and returns when
  // all are done. 0 <= thread_index < size(), so it can index a per-thread workspace. The caller takes part. A call
  // from inside f runs inline under the same thread_index. Calls from different threads queue. The first exception of f
  // is rethrown here; chunks not yet started are then skipped.
  template <typename F>
  void parallel_for(int64_t count, int64_t grain, F&& f) {
    using Function = std::remove_reference_t<F>;
    Job job;
    job.call = [](void* context, int64_t begin, int64_t end, int thread_index) {
      (*static_cast<Function*>(context))(begin, end, thread_index);
    };
    job.context = const_cast<void*>(static_cast<const void*>(std::addressof(f)));
    job.count = count;
    job.grain = grain;
    run(job);
  }

 private:
  struct Job {
    void (*call)(void*, int64_t, int64_t, int) = nullptr;
    void* context = nullptr;
    int64_t count = 0;
    int64_t grain = 1;
    std::atomic<int64_t> next{0};
    std::mutex error_mutex;
    std::exception_ptr error;
  };

  void run(Job& job);
  void work(Job& job, int thread_index);
  void worker_main(int thread_index);
  // Waits for a job other than `last_epoch` and joins it; null when the pool is closing.
  Job* join_next(uint64_t& last_epoch);

  // One word so that joining is one compare-and-swap: epoch << 17 | open << 16 | number of workers inside the job.
  // A worker that wakes late finds the job closed and never delays the caller.
  std::atomic<uint64_t> state_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<bool> closing_{false};
  std::atomic<int> num_sleeping_{0};
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  std::mutex submit_mutex_;
  std::vector<std::thread> workers_;
};

}  // namespace wideseek
