// Tensor maps of the emulation.
#include "cuda/tensor_map.h"

namespace wideseek::cuda {

TensorMap make_tensor_map(const void* matrix, int64_t rows, int64_t columns, int box_rows) {
  return {static_cast<const std::byte*>(matrix), rows, columns, box_rows};
}

}  // namespace wideseek::cuda
