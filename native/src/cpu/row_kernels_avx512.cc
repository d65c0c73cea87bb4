// Row kernels for AVX-512.
#if defined(__x86_64__)
#include "cpu/target_avx512.h"

#include "cpu/row_kernels_body.h"

namespace wideseek {
extern const RowKernels kRowKernels_avx512;
const RowKernels kRowKernels_avx512 = kRowKernels;
}  // namespace wideseek
#endif
