// Row kernels for any CPU.
#include "cpu/target_portable.h"

#include "cpu/row_kernels_body.h"

namespace wideseek {
extern const RowKernels kRowKernels_portable;
const RowKernels kRowKernels_portable = kRowKernels;
}  // namespace wideseek
