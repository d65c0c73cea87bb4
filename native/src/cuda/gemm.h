// Matrix products of linear layers. Contracts: backend.h. Row-major; fp32 products are true fp32, bf16 ones accumulate
// in fp32. One algorithm, chosen for many rows, serves a layer whatever the number of rows, and it never splits the
// inner dimension: then each element is one sum in the order of the algorithm's tiles, and the bits of a row do not
// depend on the rows beside it. That last step is how such kernels are built, not what cuBLASLt's documentation
// promises (a kernel might hand out the inner dimension by the number of tiles), so it is measured on every device and
// library: device_product_rows_do_not_depend_on_the_batch, and generation_bench --onpolicy over a whole model. The
// price is at few rows: tiles of 128 features leave most of the GPU idle in the narrower layers of a decode step, and
// an algorithm that split the sum to fill it would give other bits. generation_bench --decode measures what is left.
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

// How algorithms are chosen. The second keeps none of the promises above: it is there to measure what they cost.
enum class AlgorithmChoice { kOneForAllRows, kBestForRows };

class Gemm {
 public:
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // `workspace` is device memory of kWorkspaceBytes. Throws kUnsupported if there is no cuBLASLt.
  explicit Gemm(void* workspace, AlgorithmChoice choice = AlgorithmChoice::kOneForAllRows);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // Chooses the algorithm for all rows now rather than in the first product. Both throw kUnsupported if none takes the
  // shape.
  void prepare(ProductKind kind, int64_t N, int64_t K, DType in, DType out);
  void multiply(Stream stream, const Product& product);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace wideseek::cuda
