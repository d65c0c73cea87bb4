// cuBLASLt of the emulation: plain loops behind the same interface, and algorithms that gemm.cu must refuse.
#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "cuda/cublaslt.h"
#include "cuda/emulation/emulation.h"

namespace wideseek::cuda::cublaslt {

struct MatmulDescState {
  int32_t transposed[2]{};
};
struct MatrixLayoutState {
  int type;
  uint64_t rows, cols;
  int64_t leading_dimension;
};
struct PreferenceState {
  uint32_t alignment[4]{256, 256, 256, 256};  // the real library's default
  uint32_t reductions = ~0u;
};

namespace {

// Algorithm::data: which, in how many parts it sums, then the alignments that it counts on, and whether one that sums
// in parts was asked for.
enum : uint64_t { kSplits, kManyRowsOnly, kTakesAll };

float load(const void* data, int type, int64_t i) {
  return type == kTypeBFloat16 ? bf16_to_float(static_cast<const uint16_t*>(data)[i])
                               : static_cast<const float*>(data)[i];
}

void store(void* data, int type, int64_t i, float value) {
  if (type == kTypeBFloat16) {
    static_cast<uint16_t*>(data)[i] = float_to_bf16(value);
  } else {
    static_cast<float*>(data)[i] = value;
  }
}

Status set_transposed(MatmulDesc desc, int attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(int32_t) || (attribute != kDescTransposeA && attribute != kDescTransposeB)) return kInvalidValue;
  std::memcpy(&desc->transposed[attribute - kDescTransposeA], value, bytes);
  return kSuccess;
}

Status set_cols(MatrixLayout layout, int attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(uint64_t) || attribute != kLayoutCols) return kInvalidValue;
  std::memcpy(&layout->cols, value, bytes);
  return kSuccess;
}

Status set_preference(Preference preference, int attribute, const void* value, size_t bytes) {
  if (attribute >= kPreferMinAlignmentA && attribute <= kPreferMinAlignmentD) {
    if (bytes != sizeof(uint32_t)) return kInvalidValue;
    std::memcpy(&preference->alignment[attribute - kPreferMinAlignmentA], value, bytes);
  }
  if (attribute == kPreferReductionSchemeMask) std::memcpy(&preference->reductions, value, sizeof(uint32_t));
  return kSuccess;
}

Status heuristic(Handle, MatmulDesc, MatrixLayout, MatrixLayout, MatrixLayout, MatrixLayout, Preference preference,
                 int requested, HeuristicResult* results, int* returned) {
  *returned = requested < 3 ? requested : 3;
  for (int i = 0; i < *returned; ++i) {
    results[i] = {};
    results[i].algorithm.data[0] = static_cast<uint64_t>(i);
    results[i].algorithm.data[1] = i == kSplits ? 4 : 1;
    for (int k = 0; k < 4; ++k) results[i].algorithm.data[2 + k] = preference->alignment[k];
    results[i].algorithm.data[6] = preference->reductions;
  }
  return kSuccess;
}

struct Sizes {
  uint64_t m, n, k;
};

// kInvalidValue unless the matrices fit together.
Status sizes_of(MatmulDesc desc, MatrixLayout a, MatrixLayout b, MatrixLayout d, Sizes* sizes) {
  const bool ta = desc->transposed[0] != 0, tb = desc->transposed[1] != 0;
  *sizes = {ta ? a->cols : a->rows, tb ? b->rows : b->cols, ta ? a->rows : a->cols};
  const bool fits = (tb ? b->cols : b->rows) == sizes->k && d->rows == sizes->m && d->cols == sizes->n;
  return fits && a->type == b->type ? kSuccess : kInvalidValue;
}

Status algorithm_check(Handle, MatmulDesc desc, MatrixLayout a, MatrixLayout b, MatrixLayout, MatrixLayout d,
                       const Algorithm* algorithm, HeuristicResult*) {
  Sizes sizes{};
  if (sizes_of(desc, a, b, d, &sizes) != kSuccess) return kInvalidValue;
  return algorithm->data[0] == kManyRowsOnly && b->cols < 64 ? kNotSupported : kSuccess;
}

Status algorithm_config(const Algorithm* algorithm, int attribute, void* value, size_t bytes, size_t* written) {
  const auto number = static_cast<uint32_t>(attribute == kConfigSplitK ? algorithm->data[1] : 0);
  *written = bytes;
  std::memcpy(value, &number, sizeof(number));
  return kSuccess;
}

Status algorithm_cap(const Algorithm*, int, void*, size_t, size_t*) { return kSuccess; }

bool is_aligned(const void* pointer, uint64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

Status matmul(Handle, MatmulDesc desc, const void* alpha, const void* a, MatrixLayout a_layout, const void* b,
              MatrixLayout b_layout, const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout d_layout,
              const Algorithm* algorithm, void*, size_t, void*) {
  Sizes sizes{};
  if (sizes_of(desc, a_layout, b_layout, d_layout, &sizes) != kSuccess) return kInvalidValue;
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!is_aligned(pointers[i], algorithm->data[2 + i])) return kNotSupported;
  }
  const bool may_split = algorithm->data[0] == kSplits && algorithm->data[6] != 0;
  if (algorithm->data[0] != kTakesAll && !may_split) return kNotSupported;
  const float scale = *static_cast<const float*>(alpha), add = *static_cast<const float*>(beta);
  const auto at = [](const MatrixLayoutState& layout, uint64_t row, uint64_t col) {
    return static_cast<int64_t>(row) + static_cast<int64_t>(col) * layout.leading_dimension;
  };
  const bool ta = desc->transposed[0] != 0, tb = desc->transposed[1] != 0;
  const MatrixLayoutState left = *a_layout, right = *b_layout, result = *d_layout;  // set anew for the next call
  emulation::give([=] {
    for (uint64_t j = 0; j < sizes.n; ++j) {
      for (uint64_t i = 0; i < sizes.m; ++i) {
        float sum = 0;
        for (uint64_t k = 0; k < sizes.k; ++k) {
          sum = std::fma(load(a, left.type, ta ? at(left, k, i) : at(left, i, k)),
                         load(b, right.type, tb ? at(right, j, k) : at(right, k, j)), sum);
        }
        const int64_t out = at(result, i, j);
        store(d, result.type, out, add == 0 ? scale * sum : std::fma(add, load(c, result.type, out), scale * sum));
      }
    }
  });
  return kSuccess;
}

Library make_library() {
  Library all{};
  all.create = [](Handle* handle) -> Status { return *handle = nullptr, kSuccess; };
  all.destroy = [](Handle) -> Status { return kSuccess; };
  all.desc_create = [](MatmulDesc* desc, int, int) -> Status { return *desc = new MatmulDescState, kSuccess; };
  all.desc_destroy = [](MatmulDesc desc) -> Status { return delete desc, kSuccess; };
  all.desc_set = set_transposed;
  all.layout_create = [](MatrixLayout* layout, int type, uint64_t rows, uint64_t cols, int64_t leading) -> Status {
    return *layout = new MatrixLayoutState{type, rows, cols, leading}, kSuccess;
  };
  all.layout_destroy = [](MatrixLayout layout) -> Status { return delete layout, kSuccess; };
  all.layout_set = set_cols;
  all.preference_create = [](Preference* made) -> Status { return *made = new PreferenceState, kSuccess; };
  all.preference_destroy = [](Preference preference) -> Status { return delete preference, kSuccess; };
  all.preference_set = set_preference;
  all.heuristic = heuristic;
  all.algorithm_check = algorithm_check;
  all.algorithm_config = algorithm_config;
  all.algorithm_cap = algorithm_cap;
  all.matmul = matmul;
  all.version = [] { return size_t{0}; };
  all.path = "emulation";
  return all;
}

}  // namespace

const Library& library() {
  static const Library emulated = make_library();
  return emulated;
}

}  // namespace wideseek::cuda::cublaslt
