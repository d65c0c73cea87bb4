// Attention kernels for avx512.
#if defined(__x86_64__)
#include "cpu/target_avx512.h"

#include "cpu/attention_kernels.h"

namespace wideseek {
const AttentionKernels attention_kernels_avx512 = avx512::kAttentionKernels;
}
#endif
