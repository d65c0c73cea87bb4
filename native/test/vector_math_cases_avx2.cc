// The vector functions compiled for avx2.
#if defined(__x86_64__)
#include "cpu/target_avx2.h"

#include "vector_math_cases_impl.h"

const VectorMathCase vector_math_avx2 = wideseek::avx2::kCase;
#endif
