// Chooses the row kernels of this process.
#include "cpu/row_kernels.h"

#include "cpu/isa.h"

namespace wideseek {

extern const RowKernels kRowKernels_portable;
#if defined(__x86_64__)
extern const RowKernels kRowKernels_avx512;
extern const RowKernels kRowKernels_avx2;
#endif

const RowKernels& row_kernels() {
#if defined(__x86_64__)
  static const RowKernels& kernels = select_for_isa(&kRowKernels_avx512, &kRowKernels_avx2, &kRowKernels_portable);
#else
  static const RowKernels& kernels = kRowKernels_portable;
#endif
  return kernels;
}

}  // namespace wideseek
