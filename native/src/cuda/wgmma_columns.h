// wgmma for every number of columns that the kernels of linear layers have: sum [64, columns] (+)= A B^T, both operands
// by rows in shared memory. The bits of an element do not depend on the number of columns.
#pragma once

#include "cuda/hopper.h"

namespace wideseek::cuda {

#if defined(WIDESEEK_CUDA_EMULATION)

template <int kColumnTiles>
void issue_row_product(float (&sum)[kColumnTiles][4], Operand a, Operand b, bool adds) {
  emulation::issue_product({kColumnTiles * 8, adds, false, false, a, b}, &sum[0][0], nullptr);
}

#else

// Names of registers %t0 to %t9, and the sums themselves.
#define WS_TEN(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9"
#define WS_SUM(n) "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
#define WS_SUMS_2(n) WS_SUM(n), WS_SUM((n) + 1)
#define WS_SUMS_4(n) WS_SUMS_2(n), WS_SUMS_2((n) + 2)
#define WS_SUMS_8(n) WS_SUMS_4(n), WS_SUMS_4((n) + 4)
#define WS_SUMS_16(n) WS_SUMS_8(n), WS_SUMS_8((n) + 8)
#define WS_ISSUE(columns, registers, a_name, b_name, adds_name, ...)                                       \
  asm volatile(                                                                                            \
      "{\n"                                                                                                \
      ".reg .pred adds;\n"                                                                                 \
      "setp.ne.b32 adds, " adds_name                                                                       \
      ", 0;\n"                                                                                             \
      "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32.bf16.bf16 {" registers "}, " a_name ", " b_name \
      ", adds, 1, 1, 0, 0;\n"                                                                              \
      "}\n"                                                                                                \
      : __VA_ARGS__                                                                                        \
      : "l"(a), "l"(b), "r"(static_cast<int>(adds)))

template <int kColumnTiles>
__device__ __forceinline__ void issue_row_product(float (&sum)[kColumnTiles][4], Operand a, Operand b, bool adds) {
  if constexpr (kColumnTiles == 1) {
    WS_ISSUE("8", "%0, %1, %2, %3", "%4", "%5", "%6", WS_SUM(0));
  } else if constexpr (kColumnTiles == 2) {
    WS_ISSUE("16", "%0, %1, %2, %3, %4, %5, %6, %7", "%8", "%9", "%10", WS_SUMS_2(0));
  } else if constexpr (kColumnTiles == 3) {
    WS_ISSUE("24", WS_TEN() ", %10, %11", "%12", "%13", "%14", WS_SUMS_2(0), WS_SUM(2));
  } else if constexpr (kColumnTiles == 4) {
    WS_ISSUE("32", WS_TEN() ", %10, %11, %12, %13, %14, %15", "%16", "%17", "%18", WS_SUMS_4(0));
  } else if constexpr (kColumnTiles == 5) {
    WS_ISSUE("40", WS_TEN() ", " WS_TEN(1), "%20", "%21", "%22", WS_SUMS_4(0), WS_SUM(4));
  } else if constexpr (kColumnTiles == 6) {
    WS_ISSUE("48", WS_TEN() ", " WS_TEN(1) ", %20, %21, %22, %23", "%24", "%25", "%26", WS_SUMS_4(0), WS_SUMS_2(4));
  } else if constexpr (kColumnTiles == 8) {
    WS_ISSUE("64", WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", %30, %31", "%32", "%33", "%34", WS_SUMS_8(0));
  } else if constexpr (kColumnTiles == 12) {
    WS_ISSUE("96", WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", " WS_TEN(3) ", %40, %41, %42, %43, %44, %45, %46, %47",
             "%48", "%49", "%50", WS_SUMS_8(0), WS_SUMS_4(8));
  } else if constexpr (kColumnTiles == 16) {
    WS_ISSUE("128",
             WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", " WS_TEN(3) ", " WS_TEN(4) ", " WS_TEN(5) ", %60, %61, %62, %63",
             "%64", "%65", "%66", WS_SUMS_16(0));
  } else if constexpr (kColumnTiles == 19) {
    WS_ISSUE("152",
             WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", " WS_TEN(3) ", " WS_TEN(4) ", " WS_TEN(5) ", " WS_TEN(
                 6) ", %70, %71, %72, %73, %74, %75",
             "%76", "%77", "%78", WS_SUMS_16(0), WS_SUMS_2(16), WS_SUM(18));
  } else if constexpr (kColumnTiles == 24) {
    WS_ISSUE("192",
             WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", " WS_TEN(3) ", " WS_TEN(4) ", " WS_TEN(5) ", " WS_TEN(
                 6) ", " WS_TEN(7) ", " WS_TEN(8) ", %90, %91, %92, %93, %94, %95",
             "%96", "%97", "%98", WS_SUMS_16(0), WS_SUMS_8(16));
  } else {
    static_assert(kColumnTiles == 32);
    WS_ISSUE("256",
             WS_TEN() ", " WS_TEN(1) ", " WS_TEN(2) ", " WS_TEN(3) ", " WS_TEN(4) ", " WS_TEN(5) ", " WS_TEN(6) ", "
                      WS_TEN(7) ", " WS_TEN(8) ", " WS_TEN(9) ", " WS_TEN(10) ", " WS_TEN(11)
                      ", %120, %121, %122, %123, %124, %125, %126, %127",
             "%128", "%129", "%130", WS_SUMS_16(0), WS_SUMS_16(16));
  }
}

#undef WS_ISSUE
#undef WS_SUMS_16
#undef WS_SUMS_8
#undef WS_SUMS_4
#undef WS_SUMS_2
#undef WS_SUM
#undef WS_TEN

#endif

}  // namespace wideseek::cuda
