// AdamW with decoupled decay (torch.optim.AdamW) and the gradient norm.
#include <cmath>

#include "cpu/row_kernels.h"
#include "cpu/row_ops.h"

namespace wideseek::cpu {
namespace {

constexpr int64_t kChunk = 1 << 14;

}  // namespace

double sum_squares(ThreadPool& pool, const float* values, int64_t count) {
  const RowKernels& kernels = row_kernels();
  std::vector<double> partial(static_cast<size_t>((count + kChunk - 1) / kChunk));
  pool.parallel_for(count, kChunk, [&](int64_t begin, int64_t end, int) {
    partial[begin / kChunk] = kernels.sum_squares(values + begin, end - begin);
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

void adamw_step(ThreadPool& pool, float* weights, float* gradients, float* first_moment, float* second_moment,
                int64_t count, const AdamWStep& step) {
  const double t = static_cast<double>(step.step);
  const AdamWFactors factors{
      .decay = static_cast<float>(1 - step.learning_rate * step.weight_decay),
      .step_size = static_cast<float>(step.learning_rate / (1 - std::pow(step.beta1, t))),
      .inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, t))),
      .epsilon = static_cast<float>(step.epsilon),
      .beta1 = static_cast<float>(step.beta1),
      .one_minus_beta1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .one_minus_beta2 = static_cast<float>(1 - step.beta2),
      .gradient_scale = static_cast<float>(step.gradient_scale),
  };
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(count, kChunk, [&](int64_t begin, int64_t end, int) {
    kernels.adamw(weights + begin, gradients + begin, first_moment + begin, second_moment + begin, end - begin,
                  factors);
  });
}

}  // namespace wideseek::cpu
