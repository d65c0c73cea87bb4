// Row kernels for any CPU.
#include "cpu/row_kernels_body.h"
#include "cpu/target_portable.h"

namespace wideseek {
extern const RowKernels kRowKernels_portable;
const RowKernels kRowKernels_portable = kRowKernels;
}  // namespace wideseek
