// Cache blocking and threading of the matrix products; the inner loops are in gemm_kernels.h.
#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/gemm_table.h"
#include "cpu/isa.h"

namespace wideseek {
namespace {

constexpr int64_t kPanel = PackedWeight::kPanel;
// Depth of one pass: a [depth][64] block of the right factor stays in L2 while all rows of the left block pass by, and
// chains are rarely stored and loaded again.
constexpr int64_t kDepth = 1024;
// Rows of a left block, which also stays in L2.
constexpr int64_t kRows = 192;
// Below this many rows, widening the right factor first costs more than it saves.
constexpr int64_t kFewRows = 12;
// The backward products turn one factor before they use it, so they want more rows to use it for, and less depth.
constexpr int64_t kInputRows = 384;
constexpr int64_t kInputDepth = 512;
constexpr int64_t kWeightRows = 192;
constexpr int64_t kWeightDepth = 256;

// Scratch of one thread; the pieces of one task are carved out of it.
float* thread_scratch(int64_t count) {
  thread_local AlignedBuffer<float> buffer;
  return buffer.grow(count);
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Enough tasks to balance the threads, but few enough to reuse the left block.
constexpr int64_t kTasksPerThread = 4;

int64_t panels_per_task(int64_t num_panels, int64_t num_row_blocks, int64_t wanted_tasks) {
  const int64_t groups = std::clamp<int64_t>(divide_up(wanted_tasks, num_row_blocks), 1, num_panels);
  return divide_up(num_panels, groups);
}

// out = x W^T + bias + residual, cut into tasks: blocks of rows times groups of panels.
struct ForwardProduct {
  ForwardProduct(float* out, int64_t ld_out, const float* x, int64_t ld_x, const PackedWeight& weight,
                 const float* bias, const float* residual, int64_t ld_residual, int64_t M, int64_t wanted_tasks)
      : out(out),
        x(x),
        bias(bias),
        residual(residual),
        ld_out(ld_out),
        ld_x(ld_x),
        ld_residual(ld_residual),
        M(M),
        weight(&weight),
        num_row_blocks(divide_up(M, kRows)),
        group(panels_per_task(weight.num_panels(), num_row_blocks, wanted_tasks)),
        num_groups(divide_up(weight.num_panels(), group)) {}
  int64_t num_tasks() const { return num_row_blocks * num_groups; }
  void run(const GemmKernels& kernel, int64_t task) const;

  float* out;
  const float *x, *bias, *residual;
  int64_t ld_out, ld_x, ld_residual, M;
  const PackedWeight* weight;
  int64_t num_row_blocks, group, num_groups;
};

void ForwardProduct::run(const GemmKernels& kernel, int64_t task) const {
  const int64_t N = weight->rows(), K = weight->cols();
  const bool bf16 = weight->dtype() == DType::kBFloat16, few = M <= kFewRows;
  const int64_t row_block = task / num_groups, first_panel = task % num_groups * group;
  // Blocks of nearly equal height.
  const int64_t m0 = M * row_block / num_row_blocks, rows = M * (row_block + 1) / num_row_blocks - m0;
  float* scratch = thread_scratch((kRows + std::min(K, kDepth)) * kPanel);
  float* widened = scratch + kRows * kPanel;
  for (int64_t p = first_panel; p < std::min(first_panel + group, weight->num_panels()); ++p) {
    const int64_t n0 = p * kPanel, cols = std::min(kPanel, N - n0);
    float* block_out = out + m0 * ld_out + n0;
    // The chains need a place of their own where the output is narrower than a panel or holds the residual, and where
    // they are loaded again: rows of the output may be far enough apart to evict each other.
    const bool direct = cols == kPanel && residual != out && K <= kDepth;
    float* chain = direct ? block_out : scratch;
    const int64_t ld_chain = direct ? ld_out : kPanel;
    for (int64_t k0 = 0; k0 < K; k0 += kDepth) {
      const int64_t depth = std::min(kDepth, K - k0);
      const float* a = x + m0 * ld_x + k0;
      if (!bf16) {
        kernel.block(a, ld_x, weight->panel_fp32(p) + k0 * kPanel, chain, ld_chain, rows, depth, k0 > 0);
      } else if (few) {
        kernel.block_bf16(a, ld_x, weight->panel_bf16(p) + k0 * kPanel, chain, ld_chain, rows, depth, k0 > 0);
      } else {
        kernel.widen(weight->panel_bf16(p) + k0 * kPanel, widened, depth * kPanel);
        kernel.block(a, ld_x, widened, chain, ld_chain, rows, depth, k0 > 0);
      }
    }
    if (direct && bias == nullptr && residual == nullptr) continue;
    for (int64_t r = 0; r < rows; ++r) {
      kernel.finish_row(block_out + r * ld_out, chain + r * ld_chain, bias == nullptr ? nullptr : bias + n0,
                        residual == nullptr ? nullptr : residual + (m0 + r) * ld_residual + n0, cols);
    }
  }
}

}  // namespace

const GemmKernels& gemm_kernels() {
#if defined(__x86_64__)
  return select_for_isa(&gemm_kernels_avx512, &gemm_kernels_avx2, &gemm_kernels_portable);
#else
  return select_for_isa<GemmKernels>(nullptr, nullptr, &gemm_kernels_portable);
#endif
}

void linear_forward(ThreadPool& pool, float* out, int64_t ld_out, const float* x, int64_t ld_x,
                    const PackedWeight& weight, const float* bias, const float* residual, int64_t ld_residual,
                    int64_t M) {
  if (M == 0) return;
  const GemmKernels& kernel = gemm_kernels();
  const ForwardProduct product(out, ld_out, x, ld_x, weight, bias, residual, ld_residual, M,
                               kTasksPerThread * pool.size());
  pool.parallel_for(product.num_tasks(), 1, [&](int64_t task, int64_t, int) { product.run(kernel, task); });
}

void expert_linear_forward(ThreadPool& pool, float* out, const float* x, const PackedWeight* const* weights,
                           const int64_t* first_rows, int64_t num_groups) {
  const GemmKernels& kernel = gemm_kernels();
  const int64_t all_rows = first_rows[num_groups] - first_rows[0];
  std::vector<ForwardProduct> products;
  std::vector<int64_t> first_tasks{0};
  for (int64_t e = 0; e < num_groups; ++e) {
    const int64_t first = first_rows[e], M = first_rows[e + 1] - first;
    if (M == 0) continue;
    const PackedWeight& weight = *weights[e];
    const int64_t N = weight.rows(), K = weight.cols();
    // Work is as the rows, so that a popular expert is spread over the threads.
    const int64_t wanted_tasks = divide_up(kTasksPerThread * pool.size() * M, all_rows);
    products.emplace_back(out + first * N, N, x + first * K, K, weight, nullptr, nullptr, 0, M, wanted_tasks);
    first_tasks.push_back(first_tasks.back() + products.back().num_tasks());
  }
  pool.parallel_for(first_tasks.back(), 1, [&](int64_t task, int64_t, int) {
    const auto after = std::upper_bound(first_tasks.begin(), first_tasks.end(), task);
    const auto index = static_cast<size_t>(after - first_tasks.begin()) - 1;
    products[index].run(kernel, task - first_tasks[index]);
  });
}

void linear_backward_input(ThreadPool& pool, float* dx, int64_t ld_dx, const float* dout, int64_t ld_dout,
                           const PackedWeight& weight, int64_t M, bool accumulate) {
  const GemmKernels& kernel = gemm_kernels();
  const int64_t N = weight.rows(), K = weight.cols();
  if (M == 0) return;
  const bool bf16 = weight.dtype() == DType::kBFloat16;
  const int64_t num_row_blocks = divide_up(M, kInputRows), num_strips = divide_up(K, kPanel);
  const int64_t group = panels_per_task(num_strips, num_row_blocks, kTasksPerThread * pool.size());
  const int64_t num_groups = divide_up(num_strips, group);
  pool.parallel_for(num_row_blocks * num_groups, 1, [&](int64_t task, int64_t, int) {
    const int64_t row_block = task / num_groups, first_strip = task % num_groups * group;
    const int64_t m0 = M * row_block / num_row_blocks, rows = M * (row_block + 1) / num_row_blocks - m0;
    float* narrow = thread_scratch((kInputRows + kPanel + kInputDepth) * kPanel);
    float* widened = narrow + kInputRows * kPanel;
    float* turned = widened + kPanel * kPanel;
    for (int64_t n0 = 0; n0 < N; n0 += kInputDepth) {
      const int64_t depth = std::min(kInputDepth, N - n0);
      const bool load_chain = accumulate || n0 > 0;
      const float* a = dout + m0 * ld_dout + n0;
      for (int64_t strip = first_strip; strip < std::min(first_strip + group, num_strips); ++strip) {
        const int64_t k0 = strip * kPanel, cols = std::min(kPanel, K - k0);
        if (cols < kPanel) std::memset(turned, 0, sizeof(float) * kInputDepth * kPanel);
        for (int64_t p = n0 / kPanel; p * kPanel < n0 + depth; ++p) {
          const float* square = nullptr;  // [cols of K][64 of N]
          if (bf16) {
            kernel.widen(weight.panel_bf16(p) + k0 * kPanel, widened, cols * kPanel);
            square = widened;
          } else {
            square = weight.panel_fp32(p) + k0 * kPanel;
          }
          kernel.transpose(square, kPanel, turned + (p * kPanel - n0) * kPanel, kPanel, cols, kPanel);
        }
        float* block_out = dx + m0 * ld_dx + k0;
        if (cols == kPanel) {
          kernel.block(a, ld_dout, turned, block_out, ld_dx, rows, depth, load_chain);
          continue;
        }
        const size_t row_bytes = sizeof(float) * static_cast<size_t>(cols);
        for (int64_t r = 0; load_chain && r < rows; ++r)
          std::memcpy(narrow + r * kPanel, block_out + r * ld_dx, row_bytes);
        kernel.block(a, ld_dout, turned, narrow, kPanel, rows, depth, load_chain);
        for (int64_t r = 0; r < rows; ++r) std::memcpy(block_out + r * ld_dx, narrow + r * kPanel, row_bytes);
      }
    }
  });
}

void linear_backward_weight(ThreadPool& pool, float* dweight, const float* dout, int64_t ld_dout, const float* x,
                            int64_t ld_x, int64_t M, int64_t N, int64_t K) {
  const GemmKernels& kernel = gemm_kernels();
  if (M == 0) return;
  const int64_t num_row_blocks = divide_up(N, kWeightRows), num_strips = divide_up(K, kPanel);
  const int64_t group = panels_per_task(num_strips, num_row_blocks, kTasksPerThread * pool.size());
  const int64_t num_groups = divide_up(num_strips, group);
  pool.parallel_for(num_row_blocks * num_groups, 1, [&](int64_t task, int64_t, int) {
    const int64_t row_block = task / num_groups, first_strip = task % num_groups * group;
    const int64_t n0 = N * row_block / num_row_blocks, rows = N * (row_block + 1) / num_row_blocks - n0;
    float* turned = thread_scratch(kWeightRows * kWeightDepth + kWeightDepth * kPanel + kWeightRows * kPanel);
    float* strip_copy = turned + kWeightRows * kWeightDepth;
    float* narrow = strip_copy + kWeightDepth * kPanel;
    for (int64_t m0 = 0; m0 < M; m0 += kWeightDepth) {
      const int64_t depth = std::min(kWeightDepth, M - m0);
      kernel.transpose(dout + m0 * ld_dout + n0, ld_dout, turned, kWeightDepth, depth, rows);
      for (int64_t strip = first_strip; strip < std::min(first_strip + group, num_strips); ++strip) {
        const int64_t k0 = strip * kPanel, cols = std::min(kPanel, K - k0);
        const size_t row_bytes = sizeof(float) * static_cast<size_t>(cols);
        for (int64_t m = 0; m < depth; ++m) {
          std::memcpy(strip_copy + m * kPanel, x + (m0 + m) * ld_x + k0, row_bytes);
          if (cols < kPanel)
            std::memset(strip_copy + m * kPanel + cols, 0, sizeof(float) * static_cast<size_t>(kPanel - cols));
        }
        float* block_out = dweight + n0 * K + k0;
        if (cols == kPanel) {
          kernel.block(turned, kWeightDepth, strip_copy, block_out, K, rows, depth, true);
          continue;
        }
        for (int64_t r = 0; r < rows; ++r) std::memcpy(narrow + r * kPanel, block_out + r * K, row_bytes);
        kernel.block(turned, kWeightDepth, strip_copy, narrow, kPanel, rows, depth, true);
        for (int64_t r = 0; r < rows; ++r) std::memcpy(block_out + r * K, narrow + r * kPanel, row_bytes);
      }
    }
  });
}

}  // namespace wideseek
