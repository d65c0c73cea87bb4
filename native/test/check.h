// The native tests' harness: TEST(name) { CHECK(...); }, all run by main() in order of definition.
// A failed CHECK is reported and the test goes on; an escaping exception fails the test. Exit code 1 if any failed.
// An argument to the program runs only the tests whose name contains it.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures_in_test() {
  static int count = 0;
  return count;
}
struct Registration {
  Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  constexpr int kMaxReported = 10;  // a broken kernel fails for every element
  if (++failures_in_test() <= kMaxReported) std::printf("  %s:%d: %s\n", file, line, what.c_str());
}

inline int run_all(const std::string& filter) {
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    if (std::string(test.name).find(filter) == std::string::npos) continue;
    failures_in_test() = 0;
    try {
      test.body();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("unexpected exception: ") + error.what());
    }
    if (failures_in_test() == 0) {
      ++passed;
    } else {
      ++failed;
      std::printf("FAILED %s (%d checks)\n", test.name, failures_in_test());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                                            \
  static void test_##name();                                                  \
  static const ::check::Registration registration_##name(#name, test_##name); \
  static void test_##name()

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
__attribute__((weak)) int main(int argc, char** argv) { return ::check::run_all(argc > 1 ? argv[1] : ""); }
