// 16 fp32 lanes in one AVX-512 register. Included by vector_math.h only.
#pragma once

namespace wideseek {
inline namespace WS_ISA {

struct F16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};
struct Mask16 {
  __mmask16 v;
};

WS_INLINE Mask16 first_lanes(int n) { return {static_cast<__mmask16>((1u << n) - 1u)}; }
WS_INLINE F16 splat(float x) { return {_mm512_set1_ps(x)}; }
WS_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
WS_INLINE F16 load(const float* p, FirstLanes n) { return {_mm512_maskz_loadu_ps(first_lanes(n.count).v, p)}; }
WS_INLINE void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
WS_INLINE void store(float* p, F16 a, FirstLanes n) { _mm512_mask_storeu_ps(p, first_lanes(n.count).v, a.v); }
WS_INLINE F16 keep(F16 a, FirstLanes n) { return {_mm512_maskz_mov_ps(first_lanes(n.count).v, a.v)}; }
WS_INLINE F16 widen_bf16(__m256i half) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
WS_INLINE F16 load_bf16(const uint16_t* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
WS_INLINE F16 load_bf16(const uint16_t* p, FirstLanes n) {
  return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n.count).v, p));
}

WS_INLINE F16 operator+(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
WS_INLINE F16 operator-(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
WS_INLINE F16 operator*(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
WS_INLINE F16 operator/(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a * b + c, rounded once.
WS_INLINE F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// b where either is NaN.
WS_INLINE F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
WS_INLINE F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
WS_INLINE F16 sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }

WS_INLINE Mask16 operator<(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
WS_INLINE Mask16 operator==(F16 a, F16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
WS_INLINE F16 select(Mask16 m, F16 yes, F16 no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }

WS_INLINE I16 splat_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
WS_INLINE I16 bits(F16 a) { return {_mm512_castps_si512(a.v)}; }
WS_INLINE F16 as_float(I16 a) { return {_mm512_castsi512_ps(a.v)}; }
WS_INLINE F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
WS_INLINE I16 operator+(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
WS_INLINE I16 operator-(I16 a, I16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
WS_INLINE I16 operator&(I16 a, I16 b) { return {_mm512_and_si512(a.v, b.v)}; }
template <int N>
WS_INLINE I16 shift_left(I16 a) {
  return {_mm512_slli_epi32(a.v, N)};
}
// Arithmetic.
template <int N>
WS_INLINE I16 shift_right(I16 a) {
  return {_mm512_srai_epi32(a.v, N)};
}

WS_INLINE float first_lane(F16 a) { return _mm512_cvtss_f32(a.v); }
// The lane tree: lane i with i + 8, then i + 4, i + 2, i + 1.
WS_INLINE float reduce_add(F16 a) {
  const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_shuffle_ps(d, d, 1)));
}
WS_INLINE float reduce_max(F16 a) { return _mm512_reduce_max_ps(a.v); }

// rows[i] lane j <-> rows[j] lane i.
WS_INLINE void transpose16(F16 (&rows)[kLanes]) {
  __m512 quad[4][4];  // quad[g][c], 128-bit lane l: column 4l + c of rows 4g .. 4g + 3
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[4 * g].v, rows[4 * g + 1].v));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[4 * g].v, rows[4 * g + 1].v));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[4 * g + 2].v, rows[4 * g + 3].v));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[4 * g + 2].v, rows[4 * g + 3].v));
    quad[g][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    quad[g][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    quad[g][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    quad[g][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 even01 = _mm512_shuffle_f32x4(quad[0][c], quad[1][c], 0x88),
                 odd01 = _mm512_shuffle_f32x4(quad[0][c], quad[1][c], 0xDD);
    const __m512 even23 = _mm512_shuffle_f32x4(quad[2][c], quad[3][c], 0x88),
                 odd23 = _mm512_shuffle_f32x4(quad[2][c], quad[3][c], 0xDD);
    rows[c].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    rows[4 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    rows[8 + c].v = _mm512_shuffle_f32x4(even01, even23, 0xDD);
    rows[12 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0xDD);
  }
}

}  // namespace WS_ISA
}  // namespace wideseek
