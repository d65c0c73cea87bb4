// Matrix products of linear layers. Contracts: backend.h. Row-major; fp32 products are true fp32, bf16 ones accumulate
// in fp32. The bits of a row of a forward product do not depend on the number of rows: a token is sampled, prefilled
// and trained on with equal logits.
//
// On compute capability 9.0 forward products in bf16 are computed by kernels of our own, which keep that promise by
// construction (product_plan.h). All else is cuBLASLt's: backward products, which nothing in generation must equal,
// fp32, other devices, and layers whose rows are not whole 16 bytes (of the shape alone, never of the number of rows).
// There one algorithm, chosen for many rows, serves a layer whatever the number of rows, and it never splits the inner
// dimension: then each element is one sum in the order of the algorithm's tiles. That this gives equal bits is how such
// kernels are built, not what cuBLASLt's documentation promises (a kernel might hand out the inner dimension by the
// number of tiles), so it is measured on every device and library: device_product_rows_do_not_depend_on_the_batch, and
// generation_bench --onpolicy over a whole model.
#pragma once

#include <cstdint>
#include <memory>

#include "base/typed_pointer.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// Which of the three products of a linear layer out [M,N] = x [M,K] weight^T [N,K].
enum class ProductKind {
  kForward,         // out [M,N] = left [M,K] right^T, right [N,K]
  kBackwardInput,   // out [M,K] = left [M,N] right, right [N,K]
  kBackwardWeight,  // out [N,K] = left^T right, left [M,N], right [M,K]
};

struct Product {
  ProductKind kind;
  TypedPointer out;
  ConstTypedPointer left, right;  // of one dtype
  ConstTypedPointer add;          // added to the product before it is rounded; null or as out, may be out
  int64_t M, N, K;
};

// Forward products by many layers of one shape: rows [first_rows[e], first_rows[e + 1]) of left and out are layer e's.
struct ExpertProducts {
  TypedPointer out;           // [first_rows[count], N]
  ConstTypedPointer left;     // [first_rows[count], K]
  const void* const* layers;  // host [count], each [N,K] of left's dtype
  const int64_t* first_rows;  // host [count + 1]
  int64_t count, N, K;
};

// Who computes.
enum class AlgorithmChoice {
  kOwnKernels,     // as above; elsewhere as the next
  kOneForAllRows,  // cuBLASLt alone
  kBestForRows,    // cuBLASLt, keeping none of the promises above: it is there to measure what they cost
};

// kOwnKernels, or with WIDESEEK_PRODUCTS=cublaslt in the environment kOneForAllRows. Throws kInvalidArgument if it is
// another word.
AlgorithmChoice default_algorithm_choice();

class Gemm {
 public:
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // `workspace` is device memory of kWorkspaceBytes. Throws kUnsupported if there is no cuBLASLt.
  explicit Gemm(void* workspace, AlgorithmChoice choice = default_algorithm_choice());
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // Chooses cuBLASLt's algorithm for all rows now, where it is to compute, rather than in the first product. Both throw
  // kUnsupported if none takes the shape.
  void prepare(ProductKind kind, int64_t N, int64_t K, DType in, DType out);
  void multiply(Stream stream, const Product& product);
  // Each row as multiply gives it.
  void multiply_experts(Stream stream, const ExpertProducts& products);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace wideseek::cuda
