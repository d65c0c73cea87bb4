// Which products are computed by our own kernels, and the others through cuBLASLt, with one algorithm for each kind,
// layer shape and element type.
//
// cuBLASLt is column-major, so a row-major [r,c] is its [c,r], and every product below is the transpose of ours:
//   forward          out^T [N,M] = (weight^T [K,N])^T  x^T [K,M]
//   backward input   dx^T  [K,M] =  weight^T [K,N]     dout^T [N,M]
//   backward weight  dw^T  [K,N] =  x^T [K,M]         (dout^T [N,M])^T
#include "cuda/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <tuple>

#include "base/error.h"
#include "cuda/cublaslt.h"
#include "cuda/hopper.h"
#include "cuda/product.h"

namespace wideseek::cuda {
namespace {

using namespace cublaslt;

constexpr const char* kOp = "gemm";
// The algorithm is the best one for this many rows among those that also take all of kRowsToTake.
constexpr int64_t kTypicalRows = 4096;
constexpr int64_t kRowsToTake[] = {1, 7, 64, 1000, 40000};
constexpr int kAlgorithmsToTry = 64;

void check(Status status, const char* call) {
  WS_CHECK(status == kSuccess, kInternal, kOp, std::string(call) + " failed with status " + std::to_string(status));
}

#if defined(WIDESEEK_CUDA_EMULATION)
void* native_handle(Stream) { return nullptr; }
#else
void* native_handle(Stream stream) { return stream; }
#endif

int type_of(DType dtype) { return dtype == DType::kBFloat16 ? kTypeBFloat16 : kTypeFloat32; }

// Rows of M are taken from arrays at any row, so this is what is known of a pointer to them.
uint32_t row_alignment(int64_t cols, DType dtype) {
  const int64_t bytes = cols * dtype_bytes(dtype);
  return static_cast<uint32_t>(std::min<int64_t>(bytes & -bytes, 16));
}

struct MatrixShape {
  int64_t rows, cols;  // column-major
  DType dtype;
};

// A layer's product with descriptors whose numbers of rows (M) are set anew for each call.
struct Plan {
  const Library& library;
  MatmulDesc desc = nullptr;
  MatrixLayout a = nullptr, b = nullptr, out = nullptr;
  bool rows_in_a = false, rows_in_out = false;  // M always is the columns of b
  Algorithm algorithm{};

  explicit Plan(const Library& lib) : library(lib) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    for (MatrixLayout layout : {a, b, out}) {
      if (layout != nullptr) library.layout_destroy(layout);
    }
    if (desc != nullptr) library.desc_destroy(desc);
  }

  void set_rows(int64_t M) {
    const auto cols = static_cast<uint64_t>(M);
    check(library.layout_set(b, kLayoutCols, &cols, sizeof(cols)), "cublasLtMatrixLayoutSetAttribute");
    if (rows_in_a) check(library.layout_set(a, kLayoutCols, &cols, sizeof(cols)), "cublasLtMatrixLayoutSetAttribute");
    if (rows_in_out) {
      check(library.layout_set(out, kLayoutCols, &cols, sizeof(cols)), "cublasLtMatrixLayoutSetAttribute");
    }
  }
};

MatrixLayout make_layout(const Library& library, const MatrixShape& shape) {
  MatrixLayout layout = nullptr;
  check(library.layout_create(&layout, type_of(shape.dtype), static_cast<uint64_t>(shape.rows),
                              static_cast<uint64_t>(shape.cols), shape.rows),
        "cublasLtMatrixLayoutCreate");
  return layout;
}

// What cuBLASLt offers for one layer, the fastest first as it thinks.
struct Candidates {
  HeuristicResult results[kAlgorithmsToTry] = {};
  int count = 0;
};

// The first candidate that sums the inner dimension in one go and takes every number of rows.
bool choose_algorithm(Plan& plan, Handle handle, const Candidates& candidates) {
  const Library& library = plan.library;
  for (int i = 0; i < candidates.count; ++i) {
    const Algorithm& algorithm = candidates.results[i].algorithm;
    int32_t split = 1, out_of_place = 1;
    uint32_t reduction = 0;
    size_t written = 0;
    library.algorithm_config(&algorithm, kConfigSplitK, &split, sizeof(split), &written);
    library.algorithm_config(&algorithm, kConfigReductionScheme, &reduction, sizeof(reduction), &written);
    library.algorithm_cap(&algorithm, kCapOutOfPlaceResult, &out_of_place, sizeof(out_of_place), &written);
    if (candidates.results[i].state != kSuccess || split > 1 || reduction != 0 || out_of_place == 0) continue;
    const bool takes_all = std::all_of(std::begin(kRowsToTake), std::end(kRowsToTake), [&](int64_t rows) {
      plan.set_rows(rows);
      HeuristicResult result{};
      return library.algorithm_check(handle, plan.desc, plan.a, plan.b, plan.out, plan.out, &algorithm, &result) ==
                 kSuccess &&
             result.workspace_bytes <= static_cast<size_t>(Gemm::kWorkspaceBytes);
    });
    if (!takes_all) continue;
    plan.algorithm = algorithm;
    return true;
  }
  return false;
}

// The first candidate that can be had.
bool take_first(Plan& plan, const Candidates& candidates) {
  for (int i = 0; i < candidates.count; ++i) {
    if (candidates.results[i].state != kSuccess) continue;
    plan.algorithm = candidates.results[i].algorithm;
    return true;
  }
  return false;
}

struct PreferenceOwner {
  explicit PreferenceOwner(const Library& lib) : library(lib) {
    check(library.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  }
  PreferenceOwner(const PreferenceOwner&) = delete;
  PreferenceOwner& operator=(const PreferenceOwner&) = delete;
  ~PreferenceOwner() { library.preference_destroy(preference); }
  template <typename T>
  void set(int attribute, T value) {
    check(library.preference_set(preference, attribute, &value, sizeof(value)), "cublasLtMatmulPreferenceSetAttribute");
  }
  const Library& library;
  Preference preference = nullptr;
};

// `rows`: 0 for an algorithm that serves any number of them.
std::unique_ptr<Plan> make_plan(const Library& library, Handle handle, ProductKind kind, int64_t N, int64_t K, DType in,
                                DType out, int64_t rows) {
  const bool forward = kind == ProductKind::kForward, weight = kind == ProductKind::kBackwardWeight;
  const int64_t M = rows == 0 ? kTypicalRows : rows;
  const MatrixShape a{K, weight ? M : N, in};
  const MatrixShape b{forward ? K : N, M, in};
  const MatrixShape result{forward ? N : K, weight ? N : M, out};
  auto plan = std::make_unique<Plan>(library);
  plan->rows_in_a = weight;
  plan->rows_in_out = !weight;
  check(library.desc_create(&plan->desc, kCompute32F, kTypeFloat32), "cublasLtMatmulDescCreate");
  const int32_t transpose_a = forward ? kTransposed : kNotTransposed;
  const int32_t transpose_b = weight ? kTransposed : kNotTransposed;
  check(library.desc_set(plan->desc, kDescTransposeA, &transpose_a, sizeof(transpose_a)),
        "cublasLtMatmulDescSetAttribute");
  check(library.desc_set(plan->desc, kDescTransposeB, &transpose_b, sizeof(transpose_b)),
        "cublasLtMatmulDescSetAttribute");
  plan->a = make_layout(library, a);
  plan->b = make_layout(library, b);
  plan->out = make_layout(library, result);

  PreferenceOwner preference(library);
  preference.set(kPreferMaxWorkspaceBytes, static_cast<uint64_t>(Gemm::kWorkspaceBytes));
  if (rows == 0) preference.set(kPreferReductionSchemeMask, uint32_t{0});  // CUBLASLT_REDUCTION_SCHEME_NONE alone
  preference.set(kPreferMinAlignmentA, row_alignment(a.rows, in));
  preference.set(kPreferMinAlignmentB, row_alignment(b.rows, in));
  preference.set(kPreferMinAlignmentC, row_alignment(result.rows, out));
  preference.set(kPreferMinAlignmentD, row_alignment(result.rows, out));
  Candidates candidates;
  const Status status =
      library.heuristic(handle, plan->desc, plan->a, plan->b, plan->out, plan->out, preference.preference,
                        kAlgorithmsToTry, candidates.results, &candidates.count);
  const bool is_chosen =
      status == kSuccess && (rows == 0 ? choose_algorithm(*plan, handle, candidates) : take_first(*plan, candidates));
  WS_CHECK(is_chosen, kUnsupported, kOp,
           "cuBLASLt " + std::to_string(library.version()) + " has no algorithm for " +
               (in == DType::kBFloat16 ? "bfloat16" : "float32") + " linear layers of " + std::to_string(N) + " x " +
               std::to_string(K) + " whose sums do not depend on the number of rows (" +
               std::to_string(candidates.count) + " offered)");
  return plan;
}

}  // namespace

struct Gemm::State {
  using Key = std::tuple<ProductKind, int64_t, int64_t, DType, DType, int64_t>;
  const Library& library;
  void* workspace;
  AlgorithmChoice choice;
  Handle handle = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans;

  // Known by the layer alone, so that all numbers of rows have one order of sums.
  bool is_own(ProductKind kind, int64_t N, int64_t K, DType in) const {
    return choice == AlgorithmChoice::kOwnKernels && kind == ProductKind::kForward && in == DType::kBFloat16 &&
           products_take(N, K) && device_has_wgmma();
  }

  // For M rows, if algorithms are for one number of them.
  Plan& plan(ProductKind kind, int64_t N, int64_t K, DType in, DType out, int64_t M) {
    const int64_t rows = choice == AlgorithmChoice::kBestForRows ? M : 0;
    std::unique_ptr<Plan>& known = plans[{kind, N, K, in, out, rows}];
    if (!known) known = make_plan(library, handle, kind, N, K, in, out, rows);
    return *known;
  }
};

AlgorithmChoice default_algorithm_choice() {
  const char* named = std::getenv("WIDESEEK_PRODUCTS");
  const std::string wanted = named == nullptr ? "" : named;
  WS_CHECK(wanted.empty() || wanted == "cublaslt", kInvalidArgument, kOp,
           "WIDESEEK_PRODUCTS is \"" + wanted + "\"; it may be \"cublaslt\" or empty");
  return wanted == "cublaslt" ? AlgorithmChoice::kOneForAllRows : AlgorithmChoice::kOwnKernels;
}

Gemm::Gemm(void* workspace, AlgorithmChoice choice)
    : state_(std::make_unique<State>(State{library(), workspace, choice, nullptr, {}})) {
  const Status status = state_->library.create(&state_->handle);
  WS_CHECK(
      status == kSuccess, kUnsupported, "cuBLASLt",
      state_->library.path + " does not start (cublasLtCreate gave status " + std::to_string(status) +
          "); it must be of a CUDA version that the driver supports: update the driver, or set WIDESEEK_CUBLASLT to "
          "an older libcublasLt");
}

Gemm::~Gemm() {
  state_->plans.clear();
  state_->library.destroy(state_->handle);
}

void Gemm::prepare(ProductKind kind, int64_t N, int64_t K, DType in, DType out) {
  if (!state_->is_own(kind, N, K, in)) state_->plan(kind, N, K, in, out, kTypicalRows);
}

void Gemm::multiply(Stream stream, const Product& product) {
  const auto& [kind, out, left, right, add, M, N, K] = product;
  WS_CHECK(left.dtype == right.dtype && (!add || add.dtype == out.dtype), kUnsupported, kOp,
           "both factors must have one dtype, and what is added that of the result: store weights in the dtype of "
           "activations");
  if (M == 0) return;
  if (state_->is_own(kind, N, K, left.dtype)) return multiply_forward(stream, product, state_->workspace);
  Plan& plan = state_->plan(kind, N, K, left.dtype, out.dtype, M);
  plan.set_rows(M);
  // Our first factor is their second one, in all three products.
  const float alpha = 1, beta = add ? 1.0f : 0.0f;
  const Status status = state_->library.matmul(
      state_->handle, plan.desc, &alpha, right.data, plan.a, left.data, plan.b, &beta, add ? add.data : out.data,
      plan.out, out.data, plan.out, &plan.algorithm, state_->workspace, kWorkspaceBytes, native_handle(stream));
  if (status == kSuccess) return;
  const bool refused = status == kInvalidValue || status == kNotSupported;  // before anything ran
  throw Error(refused ? ErrorCode::kInternal : ErrorCode::kDeviceLost, kOp,
              "cublasLtMatmul failed with status " + std::to_string(status) + " on " + std::to_string(M) +
                  " rows of a layer of " + std::to_string(N) + " x " + std::to_string(K));
}

void Gemm::multiply_experts(Stream stream, const ExpertProducts& products) {
  const auto& [out, left, layers, first_rows, count, N, K] = products;
  if (state_->is_own(ProductKind::kForward, N, K, left.dtype) && experts_fit_one_launch())
    return multiply_experts_forward(stream, products);
  for (int64_t e = 0; e < count; ++e) {
    const int64_t first = first_rows[e];
    multiply(stream, {ProductKind::kForward,
                      out + first * N,
                      left + first * K,
                      {layers[e], left.dtype},
                      {},
                      first_rows[e + 1] - first,
                      N,
                      K});
  }
}

}  // namespace wideseek::cuda
