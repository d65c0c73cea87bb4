#include "base/sampling.h"

#include <cmath>
#include <string>

#include "base/error.h"

namespace wideseek {

void validate(const SamplingSettings& settings) {
  WS_CHECK(settings.temperature >= 0 && std::isfinite(settings.temperature), kInvalidArgument, "generate",
           "temperature must be 0 or more, got " + std::to_string(settings.temperature));
  WS_CHECK(settings.top_p > 0 && settings.top_p <= 1, kInvalidArgument, "generate",
           "topP must be above 0 and at most 1, got " + std::to_string(settings.top_p));
  WS_CHECK(settings.top_k >= 0, kInvalidArgument, "generate",
           "topK must be 0 or more, got " + std::to_string(settings.top_k));
  WS_CHECK(settings.min_p >= 0 && settings.min_p <= 1, kInvalidArgument, "generate",
           "minP must be from 0 to 1, got " + std::to_string(settings.min_p));
  WS_CHECK(settings.repetition_penalty > 0 && std::isfinite(settings.repetition_penalty), kInvalidArgument, "generate",
           "repetitionPenalty must be above 0, got " + std::to_string(settings.repetition_penalty));
}

}  // namespace wideseek
