// The class NativeEngine that JavaScript sees: arguments in, promises out. All members live on the JavaScript thread.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

#include "engine/engine.h"

namespace wideseek {

class EngineWrap : public Napi::ObjectWrap<EngineWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit EngineWrap(const Napi::CallbackInfo& info);
  ~EngineWrap() override;

 private:
  using Delivery = std::function<void(Napi::Env)>;
  static void deliver(Napi::Env env, Napi::Function callback, std::nullptr_t* context, Delivery* delivery);
  using Outbox = Napi::TypedThreadSafeFunction<std::nullptr_t, Delivery, deliver>;

  // A promise that has not been settled, and what belongs to it. Never leaves the JavaScript thread: the engine thread
  // knows only its number.
  struct Pending {
    explicit Pending(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}
    Napi::Promise::Deferred deferred;
    Napi::FunctionReference on_token;
  };

  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value logprobs(const Napi::CallbackInfo& info);
  Napi::Value forward_backward(const Napi::CallbackInfo& info);
  Napi::Value optimizer_step(const Napi::CallbackInfo& info);
  Napi::Value zero_gradients(const Napi::CallbackInfo& info);
  Napi::Value write_parameter(const Napi::CallbackInfo& info);
  Napi::Value read_parameter(const Napi::CallbackInfo& info);
  Napi::Value read_tensor(const Napi::CallbackInfo& info);
  Napi::Value write_tensor(const Napi::CallbackInfo& info);
  Napi::Value initialize(const Napi::CallbackInfo& info);
  Napi::Value training_state(const Napi::CallbackInfo& info);
  Napi::Value set_training_state(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  // Runs `work` on the engine thread and settles a promise with `convert` of its result.
  template <typename Result>
  Napi::Value submit(Napi::Env env, std::function<Result(DeviceState&)> work,
                     std::function<Napi::Value(Napi::Env, const Result&)> convert);
  Napi::Value submit(Napi::Env env, std::function<void(DeviceState&)> work);

  // While something is pending, this object is not collected and the process does not exit.
  uint64_t add_pending(Napi::Env env);
  void settle(Napi::Env env, uint64_t id, const std::function<void(Pending&)>& how);
  void resolve(Napi::Env env, uint64_t id, const std::function<Napi::Value()>& convert);
  // Any thread.
  void post(Delivery delivery);
  void post_rejection(uint64_t id, std::exception_ptr reason);

  static void on_environment_exit(void* wrap);
  void shut_down();

  Napi::Env env_;
  Outbox outbox_;
  std::unordered_map<uint64_t, std::unique_ptr<Pending>> pending_;
  uint64_t next_id_ = 1;
  bool shut_down_ = false;
  std::unique_ptr<Engine> engine_;  // last: its thread posts to the outbox
};

}  // namespace wideseek
