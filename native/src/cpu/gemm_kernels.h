// The inner loops of gemm.cc for one instruction set; included by gemm_avx512.cc, gemm_avx2.cc and gemm_portable.cc.
#pragma once

#include "cpu/gemm_table.h"
#include "cpu/vector_math.h"

namespace wideseek::WS_ISA {
namespace {

constexpr int64_t kPanel = 64;
constexpr int kPanelVectors = kPanel / kLanes;
// Rows and vectors of one register tile: 24 accumulators in the 32 AVX-512 registers; 12 of 8 lanes in AVX2's 16.
constexpr int kTileRows = 6;
#if defined(WS_VECTOR_AVX512)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 1;
#endif

WS_INLINE F16 load_weight(const float* p) { return load(p); }
WS_INLINE F16 load_weight(const uint16_t* p) { return load_bf16(p); }

template <int R, typename B>
void tile(const float* a, int64_t lda, const B* b, float* c, int64_t ldc, int64_t depth, bool load_c) {
  F16 acc[R][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = load_c ? load(c + r * ldc + v * kLanes) : splat(0.0f);
  }
  // Unrolled because the loop's own additions compete with the fmas for the same two ports.
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k) {
    F16 column[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) column[v] = load_weight(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F16 value = splat(a[r * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] = fma(value, column[v], acc[r][v]);
    }
    b += kPanel;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
  }
}

template <typename B>
void block_of(const float* a, int64_t lda, const B* b, float* c, int64_t ldc, int64_t rows, int64_t depth,
              bool load_c) {
  using Tile = void (*)(const float*, int64_t, const B*, float*, int64_t, int64_t, bool);
  static constexpr Tile kTiles[] = {tile<1, B>, tile<2, B>, tile<3, B>, tile<4, B>, tile<5, B>, tile<6, B>};
  // Tiles of nearly equal height: a last tile of one row would wait for its own additions.
  const int64_t num_tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < num_tiles; ++t) {
    const int64_t begin = rows * t / num_tiles, height = rows * (t + 1) / num_tiles - begin;
    for (int v = 0; v < kPanelVectors; v += kTileVectors) {
      kTiles[height - 1](a + begin * lda, lda, b + v * kLanes, c + begin * ldc + v * kLanes, ldc, depth, load_c);
    }
  }
}

void block(const float* a, int64_t lda, const float* b, float* c, int64_t ldc, int64_t rows, int64_t depth,
           bool load_c) {
  block_of(a, lda, b, c, ldc, rows, depth, load_c);
}
void block_bf16(const float* a, int64_t lda, const uint16_t* b, float* c, int64_t ldc, int64_t rows, int64_t depth,
                bool load_c) {
  block_of(a, lda, b, c, ldc, rows, depth, load_c);
}

void widen(const uint16_t* in, float* out, int64_t count) {
  for_each_vector(count, [&](int64_t i, auto lanes) { store(out + i, load_bf16(in + i, lanes), lanes); });
}

void transpose(const float* in, int64_t ld_in, float* out, int64_t ld_out, int64_t rows, int64_t cols) {
  for (int64_t r0 = 0; r0 < rows; r0 += kLanes) {
    const int num_rows = static_cast<int>(rows - r0 < kLanes ? rows - r0 : kLanes);
    for (int64_t c0 = 0; c0 < cols; c0 += kLanes) {
      const int num_cols = static_cast<int>(cols - c0 < kLanes ? cols - c0 : kLanes);
      F16 square[kLanes];
      if (num_rows == kLanes && num_cols == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) square[i] = load(in + (r0 + i) * ld_in + c0);
        transpose16(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(out + (c0 + i) * ld_out + r0, square[i]);
      } else {
        for (int i = 0; i < num_rows; ++i) {
          for (int j = 0; j < num_cols; ++j) out[(c0 + j) * ld_out + r0 + i] = in[(r0 + i) * ld_in + c0 + j];
        }
      }
    }
  }
}

void finish_row(float* out, const float* chain, const float* bias, const float* residual, int64_t cols) {
  for_each_vector(cols, [&](int64_t i, auto lanes) {
    F16 value = load(chain + i, lanes);
    if (bias != nullptr) value = value + load(bias + i, lanes);
    if (residual != nullptr) value = value + load(residual + i, lanes);
    store(out + i, value, lanes);
  });
}

}  // namespace

constexpr GemmKernels kGemmKernels = {block, block_bf16, widen, transpose, finish_row};

}  // namespace wideseek::WS_ISA
