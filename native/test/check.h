// The native tests' harness: TEST(name) { CHECK(...); }, all run by main() in order of definition.
// A failed CHECK is reported and the test goes on; an escaping exception fails the test. Exit code 1 if any failed, 2
// if the tests could not begin.
//   program [--device cuda] [part of the names of the tests to run]
// Without --device, tests of the device run under emulation. A test that cannot run where the program was told to run
// is counted as skipped, never as passed.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

enum class Place { kAnywhere, kEmulation, kDevice };

struct Test {
  const char* name;
  void (*body)();
  Place place;
};

struct Options {
  std::string device;  // empty: emulation
  std::string filter;
};
inline Options& options() {
  static Options all;
  return all;
}
// Throws what is missing if the device cannot be had. Set by device.h, so null where no test has a device.
inline void (*open_device)(const std::string& device) = nullptr;

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures_in_test() {
  static int count = 0;
  return count;
}
struct Registration {
  Registration(const char* name, void (*body)(), Place place) { tests().push_back({name, body, place}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  constexpr int kMaxReported = 10;  // a broken kernel fails for every element
  if (++failures_in_test() <= kMaxReported) std::printf("  %s:%d: %s\n", file, line, what.c_str());
}

// Whether the test passed.
inline bool run_one(const Test& test) {
  failures_in_test() = 0;
  try {
    test.body();
  } catch (const std::exception& error) {
    fail(test.name, 0, std::string("unexpected exception: ") + error.what());
  }
  if (failures_in_test() > 0) std::printf("FAILED %s (%d checks)\n", test.name, failures_in_test());
  return failures_in_test() == 0;
}

inline int run_all() {
  const Place elsewhere = options().device.empty() ? Place::kDevice : Place::kEmulation;
  int passed = 0, failed = 0, skipped = 0;
  for (const Test& test : tests()) {
    if (std::string(test.name).find(options().filter) == std::string::npos) continue;
    int& count = test.place == elsewhere ? skipped : run_one(test) ? passed : failed;
    ++count;
    std::fflush(stdout);  // a device that hangs shows in which test
  }
  if (skipped > 0) {
    std::printf("%d skipped: %s\n", skipped,
                elsewhere == Place::kDevice ? "they need a GPU, --device cuda"
                                            : "they need the emulation, for they give kernels host memory");
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

inline int run(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      if (argument == "--device" && i + 1 < argc) {
        options().device = argv[++i];
      } else if (argument.starts_with("--")) {
        throw std::runtime_error("got " + argument + ", takes [--device cuda] [part of a test's name]");
      } else {
        options().filter = argument;
      }
    }
    if (!options().device.empty()) {
      if (open_device == nullptr) throw std::runtime_error("--device: no test here uses one");
      open_device(options().device);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 2;
  }
  return run_all();
}

}  // namespace check

#define TEST_AT(name, place)                                                         \
  static void test_##name();                                                         \
  static const ::check::Registration registration_##name(#name, test_##name, place); \
  static void test_##name()

#define TEST(name) TEST_AT(name, ::check::Place::kAnywhere)
// Calls kernels with host memory, or asks the emulation for what no GPU does on demand.
#define EMULATION_TEST(name) TEST_AT(name, ::check::Place::kEmulation)
// Of a size that only a GPU gets through.
#define DEVICE_TEST(name) TEST_AT(name, ::check::Place::kDevice)

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) ::check::fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
  } while (0)

// |actual - expected| <= tolerance; NaN fails.
#define CHECK_NEAR(actual, expected, tolerance)                                               \
  do {                                                                                        \
    const double actual_ = (actual), expected_ = (expected), tolerance_ = (tolerance);        \
    if (!(std::fabs(actual_ - expected_) <= tolerance_)) {                                    \
      std::ostringstream text_;                                                               \
      text_.precision(9);                                                                     \
      text_ << #actual << " = " << actual_ << ", want " << expected_ << " +- " << tolerance_; \
      ::check::fail(__FILE__, __LINE__, text_.str());                                         \
    }                                                                                         \
  } while (0)

#define CHECK_THROWS(expression)                                                  \
  do {                                                                            \
    bool threw_ = false;                                                          \
    try {                                                                         \
      (void)(expression);                                                         \
    } catch (const std::exception&) {                                             \
      threw_ = true;                                                              \
    }                                                                             \
    if (!threw_) ::check::fail(__FILE__, __LINE__, #expression " did not throw"); \
  } while (0)

// Weak, so that one test file is a program by itself and all of them link into one.
__attribute__((weak)) int main(int argc, char** argv) { return ::check::run(argc, argv); }
