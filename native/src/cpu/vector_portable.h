// 16 fp32 lanes in an array. Included by vector_math.h only; what is not said here is said in vector_avx512.h.
#pragma once

namespace wideseek {
inline namespace WS_ISA {

struct alignas(16) F16 {
  float v[kLanes];
};
struct alignas(16) I16 {
  int32_t v[kLanes];
};
struct alignas(16) Mask16 {
  int32_t v[kLanes];  // 0 or -1
};

template <typename R, typename F>
WS_INLINE R map_lanes(F&& f) {
  R r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f(i);
  return r;
}

WS_INLINE Mask16 first_lanes(int n) {
  return map_lanes<Mask16>([&](int i) { return i < n ? -1 : 0; });
}
WS_INLINE F16 splat(float x) {
  return map_lanes<F16>([&](int) { return x; });
}
WS_INLINE F16 load(const float* p) {
  F16 r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
WS_INLINE F16 load(const float* p, FirstLanes n) {
  F16 r = splat(0.0f);
  for (int i = 0; i < n.count; ++i) r.v[i] = p[i];
  return r;
}
WS_INLINE void store(float* p, F16 a) { std::memcpy(p, a.v, sizeof(a.v)); }
WS_INLINE void store(float* p, F16 a, FirstLanes n) {
  for (int i = 0; i < n.count; ++i) p[i] = a.v[i];
}
WS_INLINE F16 keep(F16 a, FirstLanes n) {
  return map_lanes<F16>([&](int i) { return i < n.count ? a.v[i] : 0.0f; });
}

WS_INLINE I16 bits(F16 a) {
  I16 r;
  std::memcpy(r.v, a.v, sizeof(r.v));
  return r;
}
WS_INLINE F16 as_float(I16 a) {
  F16 r;
  std::memcpy(r.v, a.v, sizeof(r.v));
  return r;
}
WS_INLINE F16 load_bf16(const uint16_t* p, FirstLanes n) {
  return as_float(map_lanes<I16>([&](int i) { return i < n.count ? static_cast<int32_t>(uint32_t{p[i]} << 16) : 0; }));
}
WS_INLINE F16 load_bf16(const uint16_t* p) {
  return as_float(map_lanes<I16>([&](int i) { return static_cast<int32_t>(uint32_t{p[i]} << 16); }));
}

WS_INLINE F16 operator+(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] + b.v[i]; });
}
WS_INLINE F16 operator-(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] - b.v[i]; });
}
WS_INLINE F16 operator*(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] * b.v[i]; });
}
WS_INLINE F16 operator/(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] / b.v[i]; });
}
WS_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return map_lanes<F16>([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
WS_INLINE F16 max(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
WS_INLINE F16 min(F16 a, F16 b) {
  return map_lanes<F16>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
WS_INLINE F16 sqrt(F16 a) {
  return map_lanes<F16>([&](int i) { return __builtin_sqrtf(a.v[i]); });
}

WS_INLINE Mask16 operator<(F16 a, F16 b) {
  return map_lanes<Mask16>([&](int i) { return a.v[i] < b.v[i] ? -1 : 0; });
}
WS_INLINE Mask16 operator==(F16 a, F16 b) {
  return map_lanes<Mask16>([&](int i) { return a.v[i] == b.v[i] ? -1 : 0; });
}
WS_INLINE F16 select(Mask16 m, F16 yes, F16 no) {
  return map_lanes<F16>([&](int i) { return m.v[i] != 0 ? yes.v[i] : no.v[i]; });
}

WS_INLINE I16 splat_int(int32_t x) {
  return map_lanes<I16>([&](int) { return x; });
}
WS_INLINE F16 to_float(I16 a) {
  return map_lanes<F16>([&](int i) { return static_cast<float>(a.v[i]); });
}
// Unsigned inside, since these wrap.
WS_INLINE I16 operator+(I16 a, I16 b) {
  return map_lanes<I16>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i])); });
}
WS_INLINE I16 operator-(I16 a, I16 b) {
  return map_lanes<I16>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i])); });
}
WS_INLINE I16 operator&(I16 a, I16 b) {
  return map_lanes<I16>([&](int i) { return a.v[i] & b.v[i]; });
}
template <int N>
WS_INLINE I16 shift_left(I16 a) {
  return map_lanes<I16>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << N); });
}
template <int N>
WS_INLINE I16 shift_right(I16 a) {
  return map_lanes<I16>([&](int i) { return a.v[i] >> N; });
}

WS_INLINE float first_lane(F16 a) { return a.v[0]; }
WS_INLINE float reduce_add(F16 a) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
  }
  return a.v[0];
}
WS_INLINE float reduce_max(F16 a) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
  }
  return a.v[0];
}

WS_INLINE void transpose16(F16 (&rows)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float swapped = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = swapped;
    }
  }
}

}  // namespace WS_ISA
}  // namespace wideseek
