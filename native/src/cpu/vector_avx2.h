// 16 fp32 lanes in two AVX2 registers. Included by vector_math.h only; what is not said here is said in
// vector_avx512.h.
#pragma once

namespace wideseek {
inline namespace WS_ISA {

struct F16 {
  __m256 a, b;
};
struct I16 {
  __m256i a, b;
};
struct Mask16 {
  __m256 a, b;
};

WS_INLINE Mask16 first_lanes(int n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane))};
}
WS_INLINE F16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
WS_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
WS_INLINE F16 load(const float* p, FirstLanes n) {
  const Mask16 m = first_lanes(n.count);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.a)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b))};
}
WS_INLINE void store(float* p, F16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
WS_INLINE void store(float* p, F16 x, FirstLanes n) {
  const Mask16 m = first_lanes(n.count);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.a), x.a);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.b), x.b);
}
WS_INLINE F16 keep(F16 x, FirstLanes n) {
  const Mask16 m = first_lanes(n.count);
  return {_mm256_and_ps(x.a, m.a), _mm256_and_ps(x.b, m.b)};
}
WS_INLINE F16 load_bf16(const uint16_t* p) {
  const __m128i* half = reinterpret_cast<const __m128i*>(p);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(half)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(half + 1)), 16))};
}
WS_INLINE F16 load_bf16(const uint16_t* p, FirstLanes n) {
  uint16_t copy[kLanes] = {};
  for (int i = 0; i < n.count; ++i) copy[i] = p[i];
  return load_bf16(copy);
}

WS_INLINE F16 operator+(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
WS_INLINE F16 operator-(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
WS_INLINE F16 operator*(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
WS_INLINE F16 operator/(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
WS_INLINE F16 fma(F16 x, F16 y, F16 z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
WS_INLINE F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
WS_INLINE F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
WS_INLINE F16 sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }

WS_INLINE Mask16 operator<(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
WS_INLINE Mask16 operator==(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)};
}
WS_INLINE F16 select(Mask16 m, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}

WS_INLINE I16 splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
WS_INLINE I16 bits(F16 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
WS_INLINE F16 as_float(I16 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
WS_INLINE F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
WS_INLINE I16 operator+(I16 x, I16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
WS_INLINE I16 operator-(I16 x, I16 y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
WS_INLINE I16 operator&(I16 x, I16 y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
template <int N>
WS_INLINE I16 shift_left(I16 x) {
  return {_mm256_slli_epi32(x.a, N), _mm256_slli_epi32(x.b, N)};
}
template <int N>
WS_INLINE I16 shift_right(I16 x) {
  return {_mm256_srai_epi32(x.a, N), _mm256_srai_epi32(x.b, N)};
}

WS_INLINE float first_lane(F16 x) { return _mm256_cvtss_f32(x.a); }
WS_INLINE float reduce_add(F16 x) {
  const __m256 b = _mm256_add_ps(x.a, x.b);
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}
WS_INLINE float reduce_max(F16 x) {
  const __m256 b = _mm256_max_ps(x.a, x.b);
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}

WS_INLINE void transpose8(__m256 (&rows)[8]) {
  __m256 quad[2][4];  // quad[g][c], 128-bit lane l: column 4l + c of rows 4g .. 4g + 3
#pragma GCC unroll 2
  for (int g = 0; g < 2; ++g) {
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[4 * g], rows[4 * g + 1]));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[4 * g], rows[4 * g + 1]));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[4 * g + 2], rows[4 * g + 3]));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[4 * g + 2], rows[4 * g + 3]));
    quad[g][0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
    quad[g][1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
    quad[g][2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
    quad[g][3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    rows[c] = _mm256_permute2f128_ps(quad[0][c], quad[1][c], 0x20);
    rows[4 + c] = _mm256_permute2f128_ps(quad[0][c], quad[1][c], 0x31);
  }
}
WS_INLINE void transpose16(F16 (&rows)[kLanes]) {
  __m256 corner[2][2][8];
  for (int i = 0; i < kLanes; ++i) {
    corner[i / 8][0][i % 8] = rows[i].a;
    corner[i / 8][1][i % 8] = rows[i].b;
  }
  transpose8(corner[0][0]);
  transpose8(corner[0][1]);
  transpose8(corner[1][0]);
  transpose8(corner[1][1]);
  for (int i = 0; i < kLanes; ++i) rows[i] = {corner[0][i / 8][i % 8], corner[1][i / 8][i % 8]};
}

}  // namespace WS_ISA
}  // namespace wideseek
