// PackedWeight: conversion between row-major rows and panels.
#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"
#include "cpu/gemm.h"

namespace wideseek {

PackedWeight::PackedWeight(int64_t rows, int64_t cols, DType dtype) : rows_(rows), cols_(cols), dtype_(dtype) {
  WS_CHECK(rows > 0 && cols > 0, kInvalidArgument, "PackedWeight",
           "shape is [" + std::to_string(rows) + ", " + std::to_string(cols) + "], both must be positive");
  WS_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, kUnsupported, "PackedWeight",
           "weights are stored as fp32 or bf16 on the CPU");
  num_elements_ = num_panels() * kPanel * cols;
  if (dtype == DType::kFloat32) {
    fp32_ = AlignedBuffer<float>(num_elements_);
    std::memset(fp32_.data(), 0, static_cast<size_t>(bytes()));
  } else {
    bf16_ = AlignedBuffer<uint16_t>(num_elements_);
    std::memset(bf16_.data(), 0, static_cast<size_t>(bytes()));
  }
}

void PackedWeight::store_rows(ThreadPool& pool, int64_t first_row, int64_t num_rows, const float* source) {
  WS_CHECK(first_row >= 0 && num_rows >= 0 && first_row + num_rows <= rows_, kInvalidArgument,
           "PackedWeight::store_rows",
           "rows " + std::to_string(first_row) + " + " + std::to_string(num_rows) + " of " + std::to_string(rows_));
  if (num_rows == 0) return;
  const int64_t first_panel = first_row / kPanel, last_panel = (first_row + num_rows - 1) / kPanel;
  pool.parallel_for(last_panel - first_panel + 1, 1, [&](int64_t task, int64_t, int) {
    const int64_t panel = first_panel + task;
    const int64_t begin = std::max(first_row, panel * kPanel),
                  end = std::min(first_row + num_rows, (panel + 1) * kPanel);
    // Short runs of k, so that the written lines stay in L1 until all rows of the panel have been seen.
    constexpr int64_t kRun = 64;
    for (int64_t k0 = 0; k0 < cols_; k0 += kRun) {
      const int64_t k1 = std::min(k0 + kRun, cols_);
      for (int64_t row = begin; row < end; ++row) {
        const float* in = source + (row - first_row) * cols_;
        const int64_t at = panel * cols_ * kPanel + row % kPanel;
        if (dtype_ == DType::kFloat32) {
          for (int64_t k = k0; k < k1; ++k) fp32_.data()[at + k * kPanel] = in[k];
        } else {
          for (int64_t k = k0; k < k1; ++k) bf16_.data()[at + k * kPanel] = float_to_bf16(in[k]);
        }
      }
    }
  });
}

void PackedWeight::load_row(int64_t row, float* out) const {
  const int64_t at = row / kPanel * cols_ * kPanel + row % kPanel;
  if (dtype_ == DType::kFloat32) {
    for (int64_t k = 0; k < cols_; ++k) out[k] = fp32_.data()[at + k * kPanel];
  } else {
    for (int64_t k = 0; k < cols_; ++k) out[k] = bf16_to_float(bf16_.data()[at + k * kPanel]);
  }
}

void PackedWeight::load_rows(ThreadPool& pool, int64_t first_row, int64_t num_rows, float* out) const {
  WS_CHECK(first_row >= 0 && num_rows >= 0 && first_row + num_rows <= rows_, kInvalidArgument,
           "PackedWeight::load_rows",
           "rows " + std::to_string(first_row) + " + " + std::to_string(num_rows) + " of " + std::to_string(rows_));
  constexpr int64_t kGrain = 16;
  pool.parallel_for(num_rows, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) load_row(first_row + i, out + i * cols_);
  });
}

}  // namespace wideseek
