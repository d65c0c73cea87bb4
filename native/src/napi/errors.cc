// Error codes as JavaScript knows them (packages/spec/src/errors.ts).
#include "napi/errors.h"

#include <new>

#include "base/error.h"

namespace wideseek {
namespace {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "WS_INVALID_ARGUMENT";
    case ErrorCode::kInvalidState:
      return "WS_INVALID_STATE";
    case ErrorCode::kOutOfMemory:
      return "WS_OUT_OF_MEMORY";
    case ErrorCode::kDeviceLost:
      return "WS_DEVICE_LOST";
    case ErrorCode::kUnsupported:
      return "WS_UNSUPPORTED";
    case ErrorCode::kClosed:
      return "WS_CLOSED";
    case ErrorCode::kInternal:
      return "WS_INTERNAL";
  }
  return "WS_INTERNAL";
}

Napi::Error make_error(Napi::Env env, const char* code, const std::string& op, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, op.empty() ? message : op + ": " + message);
  error.Set("code", Napi::String::New(env, code));
  error.Set("op", Napi::String::New(env, op));
  return error;
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, std::exception_ptr exception) {
  try {
    std::rethrow_exception(std::move(exception));
  } catch (const Error& error) {
    return make_error(env, code_name(error.code()), error.op(), error.what());
  } catch (const std::bad_alloc&) {
    return make_error(env, "WS_OUT_OF_MEMORY", "", "out of host memory");
  } catch (const std::exception& error) {
    return make_error(env, "WS_INTERNAL", "", error.what());
  } catch (...) {
    return make_error(env, "WS_INTERNAL", "", "unknown native exception");
  }
}

}  // namespace wideseek
