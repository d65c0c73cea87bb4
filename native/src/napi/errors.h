// The one place where C++ exceptions become JavaScript errors.
#pragma once

#include <napi.h>

#include <exception>
#include <utility>

namespace wideseek {

// An Error with `code` (WS_...) and `op`.
Napi::Error to_js_error(Napi::Env env, std::exception_ptr exception);

// Runs `body`; what it throws is thrown to JavaScript.
template <typename Body>
auto guard(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, std::current_exception());
  }
}

}  // namespace wideseek
