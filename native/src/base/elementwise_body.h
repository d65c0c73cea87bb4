// Elementwise functions on one kind of number: 16 lanes of a CPU's vector, or the one float of a GPU's thread. Text to
// include inside a namespace that has the types Number, Integer and Truth with the operations of cpu/vector_avx512.h,
// and WS_ELEMENTWISE, how a function is declared. One text, so that every device gives the same bits.

// e^x; <= 1 ulp for normal results, gradual underflow, inf above 88.73, NaN stays NaN. exp(0) == 1.
WS_ELEMENTWISE Number exp(Number x) {
  // max(a, x) gives x when x is NaN.
  x = min(splat(89.0f), max(splat(-104.0f), x));
  // Adding 1.5 * 2^23 leaves round(x / ln 2) in the low bits.
  const Number magic = splat(12582912.0f);
  const Number shifted = fma(x, splat(1.44269504088896341f), magic);
  const Number n = shifted - magic;
  Number r = fma(n, splat(-0.693145751953125f), x);  // ln 2 in two parts, the first exact in n * part
  r = fma(n, splat(-1.42860682030941723212e-6f), r);
  Number p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + splat(1.0f);
  // 2^n in two factors, so that n = 128 and denormal results are right.
  const Integer exponent = bits(shifted) - splat_int(0x4B400000);
  const Integer half = shift_right<1>(exponent);
  const Number first = as_float(shift_left<23>(half + splat_int(127)));
  const Number second = as_float(shift_left<23>(exponent - half + splat_int(127)));
  return p * first * second;
}

// ln x; <= 1 ulp or so; -inf at 0, NaN below 0 and for NaN, inf at inf, denormals right.
WS_ELEMENTWISE Number log(Number x) {
  const Truth tiny = x < splat(std::numeric_limits<float>::min());
  const Number scaled = select(tiny, x * splat(8388608.0f), x);
  const Number bias = select(tiny, splat(-23.0f), splat(0.0f));
  // Mantissa in [sqrt(1/2), sqrt(2)).
  const Integer raw = bits(scaled) - splat_int(0x3F3504F3);
  const Number e = to_float(shift_right<23>(raw)) + bias;
  const Number m = as_float((raw & splat_int(0x007FFFFF)) + splat_int(0x3F3504F3)) - splat(1.0f);
  Number p = splat(7.0376836292e-2f);
  p = fma(p, m, splat(-1.1514610310e-1f));
  p = fma(p, m, splat(1.1676998740e-1f));
  p = fma(p, m, splat(-1.2420140846e-1f));
  p = fma(p, m, splat(1.4249322787e-1f));
  p = fma(p, m, splat(-1.6668057665e-1f));
  p = fma(p, m, splat(2.0000714765e-1f));
  p = fma(p, m, splat(-2.4999993993e-1f));
  p = fma(p, m, splat(3.3333331174e-1f));
  const Number square = m * m;
  Number y = fma(e, splat(-2.12194440e-4f), p * m * square);
  y = fma(square, splat(-0.5f), y);
  y = fma(e, splat(0.693359375f), m + y);
  const Number infinity = splat(std::numeric_limits<float>::infinity());
  y = select(x == infinity, infinity, y);
  y = select(x == splat(0.0f), -infinity, y);
  return select(x < splat(0.0f), splat(std::numeric_limits<float>::quiet_NaN()), select(x == x, y, x));
}

// 1 / (1 + e^-x)
WS_ELEMENTWISE Number sigmoid(Number x) { return splat(1.0f) / (splat(1.0f) + exp(-x)); }

#undef WS_ELEMENTWISE
