// Matrix product kernels for any CPU.
#include "cpu/target_portable.h"

#include "cpu/gemm_kernels.h"

namespace wideseek {
const GemmKernels gemm_kernels_portable = portable::kGemmKernels;
}
