// Draws tokens from rows of logits on the device: where the logits are equal to the bit, the tokens of cpu/sample.cc.
#pragma once

#include <vector>

#include "backend.h"
#include "cuda/platform.h"

namespace wideseek::cuda {

// Has the memory of a draw, which grows to the largest so far.
class Sampler {
 public:
  explicit Sampler(Backend& backend) : backend_(backend) {}
  // For draws from up to R rows, but for what penalties take.
  void reserve(int64_t R);
  // As Backend::sample. Uploads once, or twice with penalties, and waits once.
  void sample(Stream stream, SampledToken* tokens, const float* logits, const SampleRequest* requests, int64_t R,
              int64_t V);

 private:
  // Of the distributions that rows stand for.
  struct Statistics {
    float *max, *log_sum, *entropy;  // [R]
  };
  Statistics measure(float* memory, const float* logits, const SampleRequest* requests, int64_t R, int64_t V);

  Backend& backend_;
  DeviceArray<std::byte> draws_;
  DeviceArray<SampledToken> tokens_;
  DeviceArray<float> statistics_;  // of the rows as they are, then as they are drawn from
  DeviceArray<float> penalized_;
  DeviceArray<std::byte> penalties_;
};

}  // namespace wideseek::cuda
