// Row kernels for AVX2.
#if defined(__x86_64__)
#include "cpu/target_avx2.h"

#include "cpu/row_kernels_body.h"

namespace wideseek {
extern const RowKernels kRowKernels_avx2;
const RowKernels kRowKernels_avx2 = kRowKernels;
}  // namespace wideseek
#endif
