// The CUDA backend under emulation, apart from its kernels: memory, matrix products, conversions, a lost device.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "check.h"
#include "cuda/attention_plan.h"
#include "cuda/backend_cuda.h"
#include "cuda/bias.h"
#include "cuda/cublaslt.h"
#include "cuda/gemm.h"
#include "cuda/memory.h"
#include "cuda/staging.h"
#include "device.h"

namespace {

using namespace wideseek;
using cuda::ProductKind;

std::vector<float> normals(uint64_t stream, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(philox_normal(11, stream, i));
  return values;
}

// Values as an array of `dtype`, and back.
struct Array {
  Array(const std::vector<float>& values, DType type) : dtype(type), bytes(values.size() * 4) {
    convert_from_float(values.data(), bytes.data(), type, static_cast<int64_t>(values.size()));
    count = static_cast<int64_t>(values.size());
  }
  TypedPointer pointer() { return {bytes.data(), dtype}; }
  std::vector<float> values() const {
    std::vector<float> wide(static_cast<size_t>(count));
    convert_to_float(bytes.data(), dtype, wide.data(), count);
    return wide;
  }
  DType dtype;
  int64_t count = 0;
  std::vector<std::byte> bytes;
};

// The error of `call`, or a failed check.
template <typename F>
Error error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  check::fail(__FILE__, __LINE__, "nothing was thrown");
  return Error(ErrorCode::kInternal, "", "");
}

bool contains(const Error& error, const char* text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

struct Sizes {
  int64_t M, N, K;
};

// Element (row, col) of what each product is defined to be, in double.
double expected_element(ProductKind kind, const Sizes& size, const std::vector<float>& left,
                        const std::vector<float>& right, int64_t row, int64_t col) {
  double sum = 0;
  if (kind == ProductKind::kForward) {
    for (int64_t k = 0; k < size.K; ++k) sum += double{left[row * size.K + k]} * right[col * size.K + k];
  } else if (kind == ProductKind::kBackwardInput) {
    for (int64_t n = 0; n < size.N; ++n) sum += double{left[row * size.N + n]} * right[n * size.K + col];
  } else {
    for (int64_t m = 0; m < size.M; ++m) sum += double{left[m * size.N + row]} * right[m * size.K + col];
  }
  return sum;
}

void check_product(cuda::Gemm& gemm, ProductKind kind, const Sizes& size, DType in, DType out, bool add) {
  const auto [M, N, K] = size;
  const bool forward = kind == ProductKind::kForward, weight = kind == ProductKind::kBackwardWeight;
  const int64_t rows = weight ? N : M, cols = forward ? N : K;
  Array left(normals(1, forward ? M * K : M * N), in), right(normals(2, weight ? M * K : N * K), in);
  Array added(normals(3, rows * cols), out), result(normals(4, rows * cols), out);
  gemm.multiply({}, {kind, result.pointer(), left.pointer(), right.pointer(),
                     add ? ConstTypedPointer(added.pointer()) : ConstTypedPointer(), M, N, K});
  const std::vector<float> a = left.values(), b = right.values(), c = added.values(), got = result.values();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      const double want = expected_element(kind, size, a, b, row, col) + (add ? c[row * cols + col] : 0.0f);
      const double rounding = out == DType::kBFloat16 ? std::fabs(want) / 256 : 0.0;
      CHECK_NEAR(got[row * cols + col], want, 1e-4 + rounding);
    }
  }
}

}  // namespace

EMULATION_TEST(cuda_products_are_what_the_backend_promises) {
  std::vector<std::byte> workspace(1);
  cuda::Gemm gemm(workspace.data());
  for (const auto kind : {ProductKind::kForward, ProductKind::kBackwardInput, ProductKind::kBackwardWeight}) {
    for (const Sizes& size : {Sizes{1, 5, 3}, Sizes{37, 24, 72}, Sizes{70, 33, 20}}) {
      for (const bool add : {false, true}) {
        check_product(gemm, kind, size, DType::kFloat32, DType::kFloat32, add);
        check_product(gemm, kind, size, DType::kBFloat16, DType::kBFloat16, add);
        check_product(gemm, kind, size, DType::kBFloat16, DType::kFloat32, add);
      }
    }
  }
  gemm.multiply({}, {ProductKind::kForward, {}, {}, {}, {}, 0, 5, 3});  // no rows, nothing read
}

EMULATION_TEST(cuda_products_by_the_best_algorithm_for_each_number_of_rows) {
  std::vector<std::byte> workspace(1);
  cuda::Gemm gemm(workspace.data(), cuda::AlgorithmChoice::kBestForRows);
  for (const auto kind : {ProductKind::kForward, ProductKind::kBackwardInput, ProductKind::kBackwardWeight}) {
    for (const int64_t rows : {1, 37}) {
      check_product(gemm, kind, {rows, 24, 72}, DType::kBFloat16, DType::kBFloat16, false);
    }
  }
}

EMULATION_TEST(cuda_products_take_rows_at_any_place) {
  // A row of 3 bf16 is 6 bytes: pointers to rows are multiples of 2 bytes alone, and the algorithm must know.
  std::vector<std::byte> workspace(1);
  cuda::Gemm gemm(workspace.data());
  Array x(normals(1, 9 * 3), DType::kBFloat16), w(normals(2, 5 * 3), DType::kBFloat16);
  Array whole(normals(3, 9 * 5), DType::kBFloat16), part(normals(3, 9 * 5), DType::kBFloat16);
  gemm.multiply({}, {ProductKind::kForward, whole.pointer(), x.pointer(), w.pointer(), {}, 9, 5, 3});
  for (int64_t row = 0; row < 9; ++row) {
    gemm.multiply({},
                  {ProductKind::kForward, part.pointer() + row * 5, x.pointer() + row * 3, w.pointer(), {}, 1, 5, 3});
  }
  CHECK(whole.values() == part.values());
}

EMULATION_TEST(cuda_rows_of_biases) {
  for (const int64_t N : {1, 40, 1029}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      constexpr int64_t T = 13;
      const std::vector<float> bias = normals(1, N), rounded = Array(bias, dtype).values();
      Array rows(normals(2, T * N), dtype);
      cuda::fill_with_bias({}, rows.pointer(), bias.data(), T, N);
      const std::vector<float> filled = rows.values();
      for (int64_t i = 0; i < T * N; ++i) CHECK(filled[i] == rounded[i % N]);
    }
  }
}

EMULATION_TEST(cuda_memory_is_reused_counted_and_checked) {
  cuda::Gpu gpu(0);
  cuda::Memory memory(gpu);
  void* const first = memory.allocate(1000);
  CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0 && std::isnan(static_cast<float*>(first)[0]));
  CHECK(memory.info().allocated_bytes == 1024);
  memory.free(first);
  CHECK(memory.info().allocated_bytes == 0 && memory.info().peak_bytes == 1024);
  CHECK(memory.allocate(600) == first);
  CHECK(std::isnan(static_cast<float*>(first)[0]) && memory.num_device_allocations() == 1);
  static_cast<std::byte*>(first)[600] = std::byte{0};
  CHECK(contains(error_of([&] { memory.free(first); }), "written past its end"));
  CHECK(contains(error_of([&] { memory.free(first); }), "was freed before"));
  memory.free(nullptr);
  void* const pinned = memory.allocate_host(100);
  CHECK(memory.info().peak_bytes == 1024);  // of the device alone
  memory.free(pinned);
}

EMULATION_TEST(cuda_memory_knows_what_lies_on_the_host) {
  cuda::Gpu gpu(0);
  cuda::Memory memory(gpu);
  auto* const pinned = static_cast<std::byte*>(memory.allocate_host(1000));
  auto* const device = static_cast<std::byte*>(memory.allocate(1000));
  CHECK(memory.is_on_host(pinned) && memory.is_on_host(pinned + 999) && !memory.is_on_host(pinned + 1000));
  CHECK(!memory.is_on_host(device));
  memory.free(pinned);
  CHECK(!memory.is_on_host(pinned));
  memory.free(device);
}

EMULATION_TEST(cuda_uploads_go_through_the_ring_and_overwrite_nothing) {
  cuda::Gpu gpu(0);
  cuda::Staging staging(gpu);
  // Together more than the ring; single ones of nothing, of a part's end and of more than a part.
  constexpr int64_t kPart = cuda::Staging::kPartBytes;
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, kPart - 64, int64_t{100}, 2 * kPart + 7, 3 * kPart, int64_t{5}}) {
    std::vector<uint8_t> source(static_cast<size_t>(bytes)), device(source.size() + 1, 0xee);
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 7 + i / 251 + source.size());
    const std::vector<uint8_t> expected = source;
    staging.upload(device.data(), source.data(), bytes);
    CHECK(std::equal(expected.begin(), expected.end(), device.begin()) && device.back() == 0xee);
  }
  gpu.synchronize();
}

EMULATION_TEST(cuda_memory_that_runs_out_says_what_to_do) {
  cuda::Gpu gpu(0);
  cuda::Memory memory(gpu);
  memory.free(memory.allocate(int64_t{1} << 20));
  cuda::set_emulated_free_bytes(int64_t{1} << 20);
  const Error error = error_of([&] { memory.allocate(int64_t{100} << 20); });
  cuda::set_emulated_free_bytes(std::numeric_limits<int64_t>::max());
  CHECK(error.code() == ErrorCode::kOutOfMemory);
  CHECK(contains(error, "could not allocate 100 MiB on the GPU: 1 MiB are free"));
  CHECK(contains(error, "maxTrainTokens"));
  CHECK(memory.info().allocated_bytes == 0);
}

EMULATION_TEST(cuda_plans_fit_the_memory_that_was_reserved_for_them) {
  const AttentionShape shape{4, 2, 16};
  const auto backend = create_cuda_backend({DType::kFloat32, 0, false});
  // Sequences of one token need the most lists for each.
  for (const auto& [count, length] : {std::pair<int64_t, int64_t>{300, 1}, {20, 15}, {17, 17}, {1, 300}}) {
    const int64_t blocks = (length + 15) / 16;
    std::vector<int32_t> tables;
    for (int64_t b = 0; b < count * blocks; ++b) tables.push_back(static_cast<int32_t>(b));
    std::vector<SequenceSlice> slices;
    for (int64_t s = 0; s < count; ++s) slices.push_back({s * length, length, 0, tables.data() + s * blocks});
    const PassLimits limits{shape, 64, count * length, 1, true};
    backend->reserve(limits);
    CHECK(backend->reserved_bytes(limits) > 0);
    cuda::set_emulated_free_bytes(0);
    for (int i = 0; i < 2; ++i) {  // the first gives its memory back
      const auto plan = backend->plan_attention(shape, slices.data(), count);
      CHECK(cuda::cuda_plan(*plan).key_tiles().num_tiles > 0);
    }
    cuda::set_emulated_free_bytes(std::numeric_limits<int64_t>::max());
    // A second plan at the same time has memory of its own.
    const auto one = backend->plan_attention(shape, slices.data(), count);
    const auto other = backend->plan_attention(shape, slices.data(), count);
    CHECK(cuda::cuda_plan(*one).query_tiles().tiles != cuda::cuda_plan(*other).query_tiles().tiles);
  }
}

EMULATION_TEST(cuda_backend_that_lost_its_device_fails_every_later_call_with_the_cause) {
  const auto backend = create_cuda_backend({DType::kFloat32, 0, false});
  DeviceArray<float> values(*backend, 100);
  backend->zero(values.get(), values.bytes());
  CHECK(backend->name() == "cuda");
  cuda::lose_emulated_device();
  CHECK(error_of([&] { backend->synchronize(); }).code() == ErrorCode::kDeviceLost);
  for (const Error& error : {error_of([&] { backend->zero(values.get(), 4); }), error_of([&] { backend->allocate(4); }),
                             error_of([&] { backend->swiglu_forward(nullptr, nullptr, 0, 0); })}) {
    CHECK(error.code() == ErrorCode::kDeviceLost);
    CHECK(contains(error, "the GPU failed before, in synchronize: cudaErrorIllegalAddress"));
    CHECK(contains(error, "--resume"));
  }
  cuda::repair_emulated_device();
}  // and gives its memory back

EMULATION_TEST(cuda_says_what_keeps_a_gpu_from_being_used) {
  using Facts = cuda::GpuFacts;
  const Facts good{12040, 12040, 2, "", "Test GPU", 8, 0};
  const auto changed = [&](auto&& change) {
    Facts facts = good;
    change(facts);
    return facts;
  };
  cuda::require_driver(good, 1);
  cuda::require_driver(changed([](Facts& f) { f.driver_version = 12000; }), 0);  // minor versions are compatible
  cuda::require_driver(changed([](Facts& f) { f.driver_version = 13000; }), 0);
  cuda::require_capability(good);
  struct Case {
    Facts facts;
    int index;
    const char* says;
  };
  const Case cases[] = {
      {changed([](Facts& f) { f.driver_version = 0; }), 0, "the NVIDIA driver is not installed; install it"},
      {changed([](Facts& f) { f.driver_version = 11080; }), 0,
       "supports CUDA 11.8, this build needs 12.0 or newer; update"},
      {changed([](Facts& f) { f.num_gpus = 0; }), 0, "the driver sees none; nvidia-smi must list"},
      {changed([](Facts& f) { f.count_error = "system not yet initialized"; }), 0,
       "system not yet initialized; nvidia-smi"},
      {good, 2, "no CUDA device 2: the driver sees 2"},
      {changed([](Facts& f) { f.major = 7, f.minor = 5; }), 0,
       "the GPU Test GPU has compute capability 7.5, 8.0 or later"}};
  for (const Case& c : cases) {
    const Error error = error_of([&] {
      cuda::require_driver(c.facts, c.index);
      cuda::require_capability(c.facts);
    });
    CHECK(error.code() == ErrorCode::kUnsupported && contains(error, c.says));
  }
}

EMULATION_TEST(cuda_says_where_it_looked_for_cublaslt) {
  const char* const before = std::getenv("WIDESEEK_CUBLASLT");
  const std::string restored = before == nullptr ? "" : before;
  ::setenv("WIDESEEK_CUBLASLT", "/no/libcublasLt.so.12", 1);
  const Error missing = error_of([] { cuda::cublaslt::open_library(); });
  CHECK(missing.code() == ErrorCode::kUnsupported && contains(missing, "/no/libcublasLt.so.12"));
  CHECK(contains(missing, "pip install") && contains(missing, "WIDESEEK_CUBLASLT"));
  ::setenv("WIDESEEK_CUBLASLT", "libm.so.6", 1);
  const Error other = error_of([] { cuda::cublaslt::open_library(); });
  CHECK(other.code() == ErrorCode::kUnsupported && contains(other, "libm.so.6 has no cublasLtCreate; cuBLAS 12 or 13"));
  before == nullptr ? ::unsetenv("WIDESEEK_CUBLASLT") : ::setenv("WIDESEEK_CUBLASLT", restored.c_str(), 1);
}

TEST(cuda_backend_refuses_shapes_that_no_kernel_takes) {
  const auto backend = device::create(DType::kBFloat16);
  backend->check_shape({8, 2, 128}, 4096);
  const Error heads = error_of([&] { backend->check_shape({8, 2, 512}, 4096); });
  CHECK(heads.code() == ErrorCode::kUnsupported &&
        contains(heads, "head_dim: got 512; the kernels take even sizes up"));
  const Error hidden = error_of([&] { backend->check_shape({8, 2, 128}, 16384); });
  CHECK(hidden.code() == ErrorCode::kUnsupported && contains(hidden, "hidden_size: got 16384"));
}

TEST(cuda_backend_refuses_what_it_cannot_do) {
  CHECK_THROWS(device::create(DType::kFloat16));
  const auto backend = device::create(DType::kBFloat16);
  CHECK(error_of([&] { backend->create_weight(4, 4, DType::kFloat32); }).code() == ErrorCode::kUnsupported);
}
