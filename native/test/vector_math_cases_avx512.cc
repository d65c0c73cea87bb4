// The vector functions compiled for avx512.
#if defined(__x86_64__)
#include "cpu/target_avx512.h"

#include "vector_math_cases_impl.h"

const VectorMathCase vector_math_avx512 = wideseek::avx512::kCase;
#endif
