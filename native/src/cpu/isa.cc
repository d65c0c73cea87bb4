// Run-time choice of the instruction set.
#include "cpu/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace wideseek {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kPortable;
}

Isa choose_isa() {
  const Isa best = best_isa();
  const char* wanted = std::getenv("WIDESEEK_ISA");
  if (wanted == nullptr || *wanted == '\0') return best;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (std::string(wanted) == isa_name(isa) && isa <= best) return isa;
  }
  throw Error(ErrorCode::kUnsupported, "cpu_isa",
              "WIDESEEK_ISA is '" + std::string(wanted) + "'; this CPU has up to '" + isa_name(best) +
                  "', the words are portable, avx2, avx512");
}

}  // namespace

Isa cpu_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kPortable:
      break;
  }
  return "portable";
}

}  // namespace wideseek
