// Body of vector_math_cases_*.cc; the file that includes it has chosen the instruction set.
#include "cpu/vector_math.h"
#include "vector_math_cases.h"

namespace wideseek::WS_ISA {
namespace {

void exp_row(const float* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes) { store(y + i, exp(load(x + i, lanes)), lanes); });
}
void log_row(const float* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes) { store(y + i, log(load(x + i, lanes)), lanes); });
}
void sigmoid_row(const float* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes) { store(y + i, sigmoid(load(x + i, lanes)), lanes); });
}
void widen_row(const uint16_t* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes) { store(y + i, load_bf16(x + i, lanes), lanes); });
}
float exp_one(float x) { return exp(x); }
float log_one(float x) { return log(x); }
float sum_row(const float* x, int64_t n) { return sum(x, n); }
float max_row(const float* x, int64_t n) { return max(x, n); }
float dot_row(const float* x, const float* y, int64_t n) { return dot(x, y, n); }
float sum_exp_row(const float* x, float shift, int64_t n) { return sum_exp(x, shift, n); }

#define WS_STRING_OF(x) #x
#define WS_STRING(x) WS_STRING_OF(x)
constexpr VectorMathCase kCase = {WS_STRING(WS_ISA), exp_row, log_row, sigmoid_row, widen_row,  exp_one,
                                  log_one,           sum_row, max_row, dot_row,     sum_exp_row};

}  // namespace
}  // namespace wideseek::WS_ISA
