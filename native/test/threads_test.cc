// ThreadPool: every index once, nesting, exceptions, concurrent callers.
#include "cpu/threads.h"

#include <stdexcept>

#include "check.h"

using wideseek::ThreadPool;

TEST(every_index_exactly_once) {
  for (int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    CHECK(pool.size() == num_threads);
    for (int64_t count : {0, 1, 2, 7, 100, 1000}) {
      for (int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread_index) {
          CHECK(begin % grain == 0 && end - begin <= grain && end > begin);
          CHECK(thread_index >= 0 && thread_index < num_threads);
          for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)]++;
        });
        for (auto& value : seen) CHECK(value == 1);
      }
    }
  }
}

TEST(many_small_jobs_lose_nothing) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < 20000; ++i) {
    pool.parallel_for(4, 1, [&](int64_t begin, int64_t, int) { sum += begin + 1; });
  }
  CHECK(sum == 200000);
}

TEST(sleeping_workers_wake_up) {
  ThreadPool pool(2);
  for (int i = 0; i < 20; ++i) {
    // Longer than the spin time, so the worker is blocked when the job comes.
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::atomic<int> arrived{0};
    // Each chunk waits for the other, so it only ends if two threads run it.
    pool.parallel_for(2, 1, [&](int64_t, int64_t, int) {
      arrived++;
      while (arrived < 2) std::this_thread::yield();
    });
    CHECK(arrived == 2);
  }
}

TEST(thread_index_is_exclusive) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  const auto body = [&](int64_t, int64_t, int thread_index) {
    auto& mine = busy[static_cast<size_t>(thread_index)];
    CHECK(mine.fetch_add(1) == 0);
    std::this_thread::yield();
    mine.fetch_sub(1);
  };
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) pool.parallel_for(i % 5, 1, body);
    });
  }
  for (auto& caller : callers) caller.join();
}

TEST(nested_calls_run_inline) {
  ThreadPool pool(3);
  std::atomic<int> total{0};
  pool.parallel_for(6, 1, [&](int64_t, int64_t, int outer) {
    pool.parallel_for(5, 1, [&](int64_t, int64_t, int inner) {
      CHECK(inner == outer);
      total++;
    });
  });
  CHECK(total == 30);
}

TEST(exceptions_reach_the_caller_and_the_pool_stays_usable) {
  ThreadPool pool(2);
  for (int i = 0; i < 50; ++i) {
    CHECK_THROWS(pool.parallel_for(100, 1, [&](int64_t begin, int64_t, int) {
      if (begin == i) throw std::runtime_error("expected");
    }));
  }
  std::atomic<int> count{0};
  pool.parallel_for(100, 1, [&](int64_t, int64_t, int) { count++; });
  CHECK(count == 100);
}

TEST(rejects_bad_arguments) {
  CHECK_THROWS(ThreadPool(-1));
  ThreadPool pool(1);
  CHECK_THROWS(pool.parallel_for(1, 0, [](int64_t, int64_t, int) {}));
  CHECK_THROWS(pool.parallel_for(-1, 1, [](int64_t, int64_t, int) {}));
}
