// Command lines of the benchmarks: pairs of an option and its value.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "model/state.h"

namespace bench {

using namespace wideseek;

// Where values go. Numbers are whole and at least `lowest`; a switch is on for "1".
struct OptionNames {
  std::map<std::string, int64_t*> numbers;
  std::map<std::string, std::string*> texts;
  std::map<std::string, bool*> switches = {};
  int64_t lowest = 0;
};

// Throws kInvalidArgument in the name of `program`.
inline void read_options(const char* program, int argc, char** argv, const OptionNames& names) {
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    WS_CHECK(i + 1 < argc, kInvalidArgument, program, name + " needs a value");
    const std::string value = argv[i + 1];
    if (const auto number = names.numbers.find(name); number != names.numbers.end()) {
      *number->second = std::atoll(value.c_str());
      WS_CHECK(*number->second >= names.lowest, kInvalidArgument, program, name + " " + value);
    } else if (const auto on = names.switches.find(name); on != names.switches.end()) {
      *on->second = value == "1";
    } else {
      const auto text = names.texts.find(name);
      WS_CHECK(text != names.texts.end(), kInvalidArgument, program, "no option " + name);
      *text->second = value;
    }
  }
}

// bf16 on a GPU, fp32 on the CPU.
inline std::unique_ptr<Backend> backend_of(const std::string& device, int64_t threads) {
  return create_backend(device, static_cast<int>(threads), device == "cuda" ? DType::kBFloat16 : DType::kFloat32);
}

// The exit code of a program that does `work`; what it throws is one line.
inline int run_program(const std::function<void()>& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace bench
