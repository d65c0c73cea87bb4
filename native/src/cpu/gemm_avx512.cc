// Matrix product kernels for avx512.
#if defined(__x86_64__)
#include "cpu/target_avx512.h"

#include "cpu/gemm_kernels.h"

namespace wideseek {
const GemmKernels gemm_kernels_avx512 = avx512::kGemmKernels;
}
#endif
