// Attention kernels for any CPU.
#include "cpu/target_portable.h"

#include "cpu/attention_kernels.h"

namespace wideseek {
const AttentionKernels attention_kernels_portable = portable::kAttentionKernels;
}
