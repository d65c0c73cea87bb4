// Row-wise CUDA kernels under emulation, against the CPU backend's: forward to the bit, in both thread orders.
#include <string>
#include <vector>

#include "base/rng.h"
#include "check.h"
#include "cpu/row_ops.h"
#include "cuda/emulation/emulation.h"
#include "cuda/rms_norm.h"

namespace {

using namespace wideseek;

std::vector<float> normals(uint64_t stream, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(philox_normal(7, stream, i));
  return values;
}

TEST(cuda_rms_norm_equals_the_cpu) {
  ThreadPool pool(1);
  constexpr int64_t T = 37;
  constexpr float kEps = 1e-6f;
  for (const int64_t C : {64, 72, 100, 2560}) {
    const std::vector<float> x = normals(0, T * C), weight = normals(1, C), dout = normals(2, T * C);
    const std::vector<float> dx_before = normals(3, T * C);
    std::vector<float> expected(x.size()), dx_expected = dx_before, dweight_expected(weight.size());
    cpu::rms_norm_forward(pool, expected.data(), x.data(), weight.data(), T, C, kEps);
    cpu::rms_norm_backward(pool, dx_expected.data(), dweight_expected.data(), dout.data(), x.data(), weight.data(), T,
                           C, kEps);
    for (const auto order : {emulation::ThreadOrder::kFirstToLast, emulation::ThreadOrder::kLastToFirst}) {
      emulation::set_thread_order(order);
      std::vector<float> out(x.size()), dx = dx_before, dweight(weight.size());
      std::vector<float> scratch(static_cast<size_t>(cuda::rms_norm_backward_scratch(C)));
      cuda::rms_norm_forward({}, out.data(), x.data(), weight.data(), T, C, kEps);
      CHECK(out == expected);
      cuda::rms_norm_backward({}, dx.data(), dweight.data(), dout.data(), x.data(), weight.data(), T, C, kEps,
                              scratch.data());
      for (size_t i = 0; i < dx.size(); ++i) CHECK_NEAR(dx[i], dx_expected[i], 4e-6);
      for (size_t i = 0; i < dweight.size(); ++i) CHECK_NEAR(dweight[i], dweight_expected[i], 1e-5);
    }
  }
}

}  // namespace
