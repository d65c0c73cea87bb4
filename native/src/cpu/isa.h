// Which instruction set the kernels use in this process; one binary holds all of them.
//
// Pattern for a family of kernels: write them once over vector_math.h inside `namespace wideseek::WS_ISA`, with a table
// of function pointers; include that header from x_avx512.cc, x_avx2.cc and x_portable.cc after the matching target_*.h
// (the x86 files empty unless __x86_64__), and choose the table with select_for_isa().
#pragma once

namespace wideseek {

enum class Isa { kPortable, kAvx2, kAvx512 };

// The best that this CPU has. The environment variable WIDESEEK_ISA=portable|avx2|avx512 may lower it, for tests and to
// compare machines; asking for more than the CPU has, or another word, throws kUnsupported. Read once.
Isa cpu_isa();
const char* isa_name(Isa isa);

// The x86 choices are null in builds for other CPUs.
template <typename T>
const T& select_for_isa(const T* avx512, const T* avx2, const T* portable) {
  switch (cpu_isa()) {
    case Isa::kAvx512:
      return *avx512;
    case Isa::kAvx2:
      return *avx2;
    case Isa::kPortable:
      break;
  }
  return *portable;
}

}  // namespace wideseek
