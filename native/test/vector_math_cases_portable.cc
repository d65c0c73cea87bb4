// The vector functions compiled for any CPU.
#include "cpu/target_portable.h"

#include "vector_math_cases_impl.h"

const VectorMathCase vector_math_portable = wideseek::portable::kCase;
