// The part of cuBLASLt's C interface that gemm.cu uses. The library is found when the program runs and its headers are
// not needed to build, so the types and constants stand here. Sources, as of 2025: names and signatures,
// docs.nvidia.com/cuda/cublas (section "Using the cuBLASLt API"); numbers of enumerators, docs.nvidia.com/cuda/
// nvmath-python/latest/bindings (pages of cublas.Status, cublas.ComputeType, cublasLt.MatmulDescAttribute,
// .MatrixLayoutAttribute, .MatmulPreferenceAttribute, .MatmulAlgoConfigAttribute, .MatmulAlgoCapAttribute), which print
// them; element types, library_types.h of the toolkit. They have not changed since cuBLAS 11.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace wideseek::cuda::cublaslt {

using Handle = struct HandleState*;
using MatmulDesc = struct MatmulDescState*;
using MatrixLayout = struct MatrixLayoutState*;
using Preference = struct PreferenceState*;
using Status = int;
// cublasStatus_t
constexpr Status kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;

// cublasOperation_t
constexpr int32_t kNotTransposed = 0, kTransposed = 1;
// cudaDataType_t: CUDA_R_32F, CUDA_R_16BF
constexpr int kTypeFloat32 = 0, kTypeBFloat16 = 14;
// cublasComputeType_t: CUBLAS_COMPUTE_32F. TF32 would be another one, CUBLAS_COMPUTE_32F_FAST_TF32.
constexpr int kCompute32F = 68;
// cublasLtMatmulDescAttributes_t
constexpr int kDescTransposeA = 3, kDescTransposeB = 4;
// cublasLtMatrixLayoutAttribute_t
constexpr int kLayoutCols = 3;
// cublasLtMatmulPreferenceAttributes_t
constexpr int kPreferMaxWorkspaceBytes = 1, kPreferReductionSchemeMask = 3, kPreferMinAlignmentA = 5,
              kPreferMinAlignmentB = 6, kPreferMinAlignmentC = 7, kPreferMinAlignmentD = 8;
// cublasLtMatmulAlgoConfigAttributes_t
constexpr int kConfigSplitK = 2, kConfigReductionScheme = 3;
// cublasLtMatmulAlgoCapAttributes_t
constexpr int kCapOutOfPlaceResult = 4;

// cublasLtMatmulAlgo_t
struct Algorithm {
  uint64_t data[8];
};

// cublasLtMatmulHeuristicResult_t
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

struct Library {
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  Status (*desc_create)(MatmulDesc*, int compute_type, int scale_type);
  Status (*desc_destroy)(MatmulDesc);
  Status (*desc_set)(MatmulDesc, int attribute, const void* value, size_t bytes);
  Status (*layout_create)(MatrixLayout*, int type, uint64_t rows, uint64_t cols, int64_t leading_dimension);
  Status (*layout_destroy)(MatrixLayout);
  Status (*layout_set)(MatrixLayout, int attribute, const void* value, size_t bytes);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference,
                      int requested, HeuristicResult*, int* returned);
  Status (*algorithm_check)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d,
                            const Algorithm*, HeuristicResult*);
  Status (*algorithm_config)(const Algorithm*, int attribute, void* value, size_t bytes, size_t* written);
  Status (*algorithm_cap)(const Algorithm*, int attribute, void* value, size_t bytes, size_t* written);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout,
                   const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout, const Algorithm*,
                   void* workspace, size_t workspace_bytes, void* stream);
  size_t (*version)();
  std::string path;
};

// Finds and opens the library. Throws kUnsupported with where it looked and what to install.
Library open_library();
// The one that is opened once; under emulation plain loops on the host.
const Library& library();

}  // namespace wideseek::cuda::cublaslt
