// Attention kernels for avx2.
#if defined(__x86_64__)
#include "cpu/target_avx2.h"

#include "cpu/attention_kernels.h"

namespace wideseek {
const AttentionKernels attention_kernels_avx2 = avx2::kAttentionKernels;
}
#endif
