// The CPU backend: device memory is host memory.
#pragma once

#include <memory>

#include "backend.h"

namespace wideseek {

std::unique_ptr<Backend> create_cpu_backend(int num_threads);

}  // namespace wideseek
