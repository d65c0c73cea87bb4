// Tensor maps, encoded by the driver's function, which is found when the program runs.
#include "cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "base/error.h"

namespace wideseek::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  check(status, "cudaGetDriverEntryPoint");
  WS_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr, kUnsupported, "CUDA",
           "the driver has no cuTensorMapEncodeTiled; update it, or set WIDESEEK_PRODUCTS=cublaslt");
  return reinterpret_cast<Encode>(function);
}

}  // namespace

TensorMap make_tensor_map(const void* matrix, int64_t rows, int64_t columns, int box_rows) {
  static const Encode encode = find_encode();
  constexpr cuuint32_t kBoxColumns = 64, kElementBytes = 2;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[] = {static_cast<cuuint64_t>(columns) * kElementBytes};
  const cuuint32_t box[] = {kBoxColumns, static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  TensorMap map;
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(matrix), sizes, row_bytes,
                                 box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  WS_CHECK(status == CUDA_SUCCESS, kInternal, "gemm",
           "cuTensorMapEncodeTiled failed with status " + std::to_string(static_cast<int>(status)) +
               " on a matrix of " + std::to_string(rows) + " x " + std::to_string(columns));
  return map;
}

}  // namespace wideseek::cuda
