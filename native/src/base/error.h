// The one exception of the native core; becomes a JavaScript WideSeekError in napi/errors.cc and nowhere else.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace wideseek {

enum class ErrorCode {
  kInvalidArgument,
  kInvalidState,
  kOutOfMemory,
  kDeviceLost,
  kUnsupported,
  kClosed,
  kInternal,
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string op, const std::string& message)
      : std::runtime_error(message), code_(code), op_(std::move(op)) {}
  ErrorCode code() const { return code_; }
  const std::string& op() const { return op_; }

 private:
  ErrorCode code_;
  std::string op_;
};

}  // namespace wideseek

// Throws Error unless `condition` holds; `message` is only built on failure.
#define WS_CHECK(condition, code, op, message)                                               \
  do {                                                                                       \
    if (!(condition)) throw ::wideseek::Error(::wideseek::ErrorCode::code, (op), (message)); \
  } while (0)
