// What is known of a GPU and its driver before it is used, and whether that is enough. Asks nobody.
#pragma once

#include <string>

namespace wideseek::cuda {

struct GpuFacts {
  int driver_version = 0;   // of CUDA that the driver supports, 12020 is 12.2; 0: there is no driver
  int runtime_version = 0;  // of CUDA that this library was built with
  int num_gpus = 0;
  std::string count_error;  // why they could not be counted
  std::string name;         // of the GPU in question
  int major = 0, minor = 0;
};

// Throw kUnsupported, as a sentence that tells what is missing and what to do.
void require_driver(const GpuFacts& facts, int index);
void require_capability(const GpuFacts& facts);

}  // namespace wideseek::cuda
