// Matrix product kernels for avx2.
#if defined(__x86_64__)
#include "cpu/target_avx2.h"

#include "cpu/gemm_kernels.h"

namespace wideseek {
const GemmKernels gemm_kernels_avx2 = avx2::kGemmKernels;
}
#endif
