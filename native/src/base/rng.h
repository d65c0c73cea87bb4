// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011) and a normal variate from them.
// Value n of a stream is a pure function of (seed, stream, n). Only exactly rounded operations are used, no libm
// transcendental, so the values are equal on every IEEE machine.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace wideseek {

inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

inline std::array<uint32_t, 4> philox_block(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(stream),
                     static_cast<uint32_t>(stream >> 32)},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// Uniform in [0, 1) with 53 bits.
inline double uniform_from_bits(uint32_t high, uint32_t low) {
  return static_cast<double>(((uint64_t{high} << 32) | low) >> 11) * 0x1p-53;
}

namespace rng_detail {

// ln(x), 0 < x <= 1, to about 1 ulp: atanh series on the mantissa in [sqrt(1/2), sqrt(2)).
inline double log_exact_order(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < 0.70710678118654757) {
    mantissa *= 2;
    --exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1);
  const double s2 = s * s;
  double sum = 1.0 / 25;
  for (int k = 23; k >= 1; k -= 2) sum = std::fma(sum, s2, 1.0 / k);
  return std::fma(static_cast<double>(exponent), 0.69314718055994530942, 2 * s * sum);
}

// cos(2 pi t), 0 <= t < 1: reduced to an eighth of a turn, Taylor series there.
inline double cos_turns(double t) {
  const double quarter = std::floor(std::fma(t, 4.0, 0.5));
  const double x = std::fma(quarter, -0.25, t) * 6.28318530717958647692;  // |x| <= pi/4
  const double x2 = -x * x;
  double cosine = 1;
  for (int k = 18; k >= 2; k -= 2) cosine = std::fma(cosine, x2 / ((k - 1) * k), 1.0);
  double sine = 1;
  for (int k = 19; k >= 3; k -= 2) sine = std::fma(sine, x2 / ((k - 1) * k), 1.0);
  sine *= x;
  switch (static_cast<int>(quarter) & 3) {
    case 0:
      return cosine;
    case 1:
      return -sine;
    case 2:
      return -cosine;
    default:
      return sine;
  }
}

}  // namespace rng_detail

// Standard normal number `index` of a stream (Box-Muller, cosine branch).
inline double philox_normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const std::array<uint32_t, 4> bits = philox_block(seed, stream, index);
  const double radius_uniform = 1.0 - uniform_from_bits(bits[0], bits[1]);  // in (0, 1]
  const double turn = uniform_from_bits(bits[2], bits[3]);
  return std::sqrt(-2 * rng_detail::log_exact_order(radius_uniform)) * rng_detail::cos_turns(turn);
}

}  // namespace wideseek
