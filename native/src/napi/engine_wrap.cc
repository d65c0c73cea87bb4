// Every method: convert the arguments, enqueue, return a promise. Nothing here computes.
#include "napi/engine_wrap.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "napi/convert.h"
#include "napi/errors.h"

namespace wideseek {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

struct TokenLogprobs {
  std::vector<float> logprobs;
  std::vector<float> entropies;
};

}  // namespace

Napi::Function EngineWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {
                         InstanceMethod<&EngineWrap::info>("info"),
                         InstanceMethod<&EngineWrap::generate>("generate"),
                         InstanceMethod<&EngineWrap::cancel>("cancel"),
                         InstanceMethod<&EngineWrap::logits>("logits"),
                         InstanceMethod<&EngineWrap::logprobs>("logprobs"),
                         InstanceMethod<&EngineWrap::forward_backward>("forwardBackward"),
                         InstanceMethod<&EngineWrap::optimizer_step>("optimizerStep"),
                         InstanceMethod<&EngineWrap::zero_gradients>("zeroGradients"),
                         InstanceMethod<&EngineWrap::write_parameter>("writeParameter"),
                         InstanceMethod<&EngineWrap::read_parameter>("readParameter"),
                         InstanceMethod<&EngineWrap::read_tensor>("readTensor"),
                         InstanceMethod<&EngineWrap::write_tensor>("writeTensor"),
                         InstanceMethod<&EngineWrap::initialize>("initialize"),
                         InstanceMethod<&EngineWrap::training_state>("trainingState"),
                         InstanceMethod<&EngineWrap::set_training_state>("setTrainingState"),
                         InstanceMethod<&EngineWrap::stats>("stats"),
                         InstanceMethod<&EngineWrap::close>("close"),
                     });
}

// ---- life

EngineWrap::EngineWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineWrap>(info), env_(info.Env()) {
  guard(env_, [&] {
    EngineOptions options = to_engine_options(info[0]);
    outbox_ = Outbox::New(env_, "wideseek engine", 0, 1);
    outbox_.Unref(env_);
    engine_ = std::make_unique<Engine>(std::move(options));
  });
  // Runs before Node tears the outbox down, because hooks run in reverse order of registration.
  napi_add_env_cleanup_hook(env_, on_environment_exit, this);
}

EngineWrap::~EngineWrap() {
  if (engine_ == nullptr || shut_down_) return;
  napi_remove_env_cleanup_hook(env_, on_environment_exit, this);
  shut_down();
}

void EngineWrap::on_environment_exit(void* wrap) { static_cast<EngineWrap*>(wrap)->shut_down(); }

void EngineWrap::shut_down() {
  shut_down_ = true;
  engine_->close([] {});
  engine_->join();
  outbox_.Abort();
  pending_.clear();
}

Napi::Value EngineWrap::close(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const uint64_t id = add_pending(info.Env());
    const Napi::Promise promise = pending_.at(id)->deferred.Promise();
    engine_->close([this, id] {
      post([this, id](Napi::Env env) {
        engine_->join();
        resolve(env, id, [env] { return env.Undefined(); });
      });
    });
    return promise;
  });
}

// ---- promises

void EngineWrap::deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Delivery* delivery) {
  const std::unique_ptr<Delivery> owned(delivery);
  if (static_cast<napi_env>(env) != nullptr) (*owned)(env);
}

void EngineWrap::post(Delivery delivery) {
  auto owned = std::make_unique<Delivery>(std::move(delivery));
  // Refused only while the environment is being torn down; then nobody waits for the result.
  if (outbox_.NonBlockingCall(owned.get()) == napi_ok) (void)owned.release();
}

void EngineWrap::post_rejection(uint64_t id, std::exception_ptr reason) {
  post([this, id, reason](Napi::Env env) {
    settle(env, id, [&](Pending& pending) { pending.deferred.Reject(to_js_error(env, reason).Value()); });
  });
}

uint64_t EngineWrap::add_pending(Napi::Env env) {
  const uint64_t id = next_id_++;
  pending_.emplace(id, std::make_unique<Pending>(env));
  if (pending_.size() == 1) {
    Ref();
    outbox_.Ref(env);
  }
  return id;
}

void EngineWrap::settle(Napi::Env env, uint64_t id, const std::function<void(Pending&)>& how) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;
  const std::unique_ptr<Pending> pending = std::move(found->second);
  pending_.erase(found);
  how(*pending);
  if (pending_.empty()) {
    outbox_.Unref(env);
    Unref();
  }
}

void EngineWrap::resolve(Napi::Env env, uint64_t id, const std::function<Napi::Value()>& convert) {
  settle(env, id, [&](Pending& pending) {
    try {
      pending.deferred.Resolve(convert());
    } catch (const Napi::Error& error) {  // for example no memory for the result
      pending.deferred.Reject(error.Value());
    }
  });
}

template <typename Result>
Napi::Value EngineWrap::submit(Napi::Env env, std::function<Result(DeviceState&)> work,
                               std::function<Napi::Value(Napi::Env, const Result&)> convert) {
  const uint64_t id = add_pending(env);
  const Napi::Promise promise = pending_.at(id)->deferred.Promise();
  engine_->post(
      [this, id, work = std::move(work), convert = std::move(convert)](DeviceState& state) {
        auto result = std::make_shared<Result>(work(state));
        post([this, id, result, convert](Napi::Env env) { resolve(env, id, [&] { return convert(env, *result); }); });
      },
      [this, id](std::exception_ptr reason) { post_rejection(id, std::move(reason)); });
  return promise;
}

Napi::Value EngineWrap::submit(Napi::Env env, std::function<void(DeviceState&)> work) {
  return submit<bool>(
      env,
      [work = std::move(work)](DeviceState& state) {
        work(state);
        return true;
      },
      [](Napi::Env env, const bool&) { return env.Undefined(); });
}

// ---- generation

// generate(request, onToken?) -> { key, completion }
Napi::Value EngineWrap::generate(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    GenerateRequest request = to_generate_request(info[0]);
    if (!info[1].IsUndefined() && !info[1].IsFunction()) throw_invalid("generate", "onToken must be a function");
    const uint64_t id = add_pending(env);
    const Napi::Promise promise = pending_.at(id)->deferred.Promise();
    if (info[1].IsFunction()) {
      pending_.at(id)->on_token = Napi::Persistent(info[1].As<Napi::Function>());
      request.on_token = [this, id](int32_t token) {
        post([this, id, token](Napi::Env env) {
          const auto found = pending_.find(id);
          if (found != pending_.end()) found->second->on_token.Call({Napi::Number::New(env, token)});
        });
      };
    }
    request.on_done = [this, id](Completion completion) {
      auto result = std::make_shared<Completion>(std::move(completion));
      post([this, id, result](Napi::Env env) { resolve(env, id, [&] { return to_js(env, *result); }); });
    };
    request.on_error = [this, id](std::exception_ptr reason) { post_rejection(id, std::move(reason)); };
    Napi::Object handle = Napi::Object::New(env);
    handle.Set("key", Napi::Number::New(env, static_cast<double>(engine_->generate(std::move(request)))));
    handle.Set("completion", promise);
    return handle;
  });
}

Napi::Value EngineWrap::cancel(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    engine_->cancel(static_cast<uint64_t>(to_integer(info[0], "cancel", "key", 1, kMaxSafeInteger)));
    return info.Env().Undefined();
  });
}

// logits(tokenIds: Int32Array) -> Float32Array [T * vocabSize]
Napi::Value EngineWrap::logits(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    using Floats = std::vector<float>;
    return submit<Floats>(
        info.Env(),
        [token_ids = to_int32s(info[0], "logits", "tokenIds")](DeviceState& state) { return state.logits(token_ids); },
        [](Napi::Env env, const Floats& values) { return to_float32_array(env, values); });
  });
}

// ---- training

Napi::Value EngineWrap::logprobs(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    auto batch = std::make_shared<OwnedBatch>(to_token_batch(info[0]));
    const double temperature = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : NAN;
    if (!(temperature > 0) || !std::isfinite(temperature)) {
      throw_invalid("logprobs", "temperature must be a number above 0");
    }
    return submit<TokenLogprobs>(
        info.Env(),
        [batch, temperature](DeviceState& state) {
          TokenLogprobs result{std::vector<float>(batch->token_ids.size()),
                               std::vector<float>(batch->token_ids.size())};
          state.logprobs(batch->view(), static_cast<float>(temperature), result.logprobs.data(),
                         result.entropies.data());
          return result;
        },
        [](Napi::Env env, const TokenLogprobs& result) {
          Napi::Object object = Napi::Object::New(env);
          object.Set("logprobs", to_float32_array(env, result.logprobs));
          object.Set("entropies", to_float32_array(env, result.entropies));
          return object;
        });
  });
}

Napi::Value EngineWrap::forward_backward(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const LossSettings loss = to_loss_settings(info[1]);
    auto batch = std::make_shared<OwnedBatch>(to_training_batch(info[0], loss));
    return submit<LossStats>(
        info.Env(), [batch, loss](DeviceState& state) { return state.forward_backward(batch->view(), loss); },
        [](Napi::Env env, const LossStats& stats) { return to_js(env, stats); });
  });
}

Napi::Value EngineWrap::optimizer_step(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const OptimizerSettings settings = to_optimizer_settings(info[0]);
    return submit<OptimizerStepResult>(
        info.Env(), [settings](DeviceState& state) { return state.optimizer_step(settings); },
        [](Napi::Env env, const OptimizerStepResult& result) { return to_js(env, result); });
  });
}

Napi::Value EngineWrap::zero_gradients(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return submit(info.Env(), [](DeviceState& state) { state.zero_gradients(); }); });
}

// ---- weights and optimizer state

// writeParameter(index, bytes: Uint8Array, dtype)
Napi::Value EngineWrap::write_parameter(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    constexpr const char* kOp = "writeParameter";
    const int64_t index = to_integer(info[0], kOp, "index", 0, INT32_MAX);
    const DType dtype = to_dtype(info[2], kOp);
    if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      throw_invalid(kOp, "bytes must be a Uint8Array");
    }
    const auto array = info[1].As<Napi::Uint8Array>();
    auto bytes = std::make_shared<std::vector<uint8_t>>(array.Data(), array.Data() + array.ElementLength());
    return submit(info.Env(), [index, dtype, bytes](DeviceState& state) {
      const int64_t expected = state.parameter(index, kOp).num_elements() * dtype_bytes(dtype);
      WS_CHECK(static_cast<int64_t>(bytes->size()) == expected, kInvalidArgument, kOp,
               state.parameter(index, kOp).name + " takes " + std::to_string(expected) + " bytes, got " +
                   std::to_string(bytes->size()));
      state.write_parameter(index, bytes->data(), dtype);
    });
  });
}

// readParameter(index, dtype) -> Uint8Array
Napi::Value EngineWrap::read_parameter(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    constexpr const char* kOp = "readParameter";
    const int64_t index = to_integer(info[0], kOp, "index", 0, INT32_MAX);
    const DType dtype = to_dtype(info[1], kOp);
    using Bytes = std::vector<uint8_t>;
    return submit<Bytes>(
        info.Env(),
        [index, dtype](DeviceState& state) {
          Bytes bytes(static_cast<size_t>(state.parameter(index, kOp).num_elements() * dtype_bytes(dtype)));
          state.model().read_parameter(index, bytes.data(), dtype);
          return bytes;
        },
        [](Napi::Env env, const Bytes& bytes) {
          Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
          std::copy(bytes.begin(), bytes.end(), array.Data());
          return array;
        });
  });
}

// readTensor(kind, index) -> Float32Array
Napi::Value EngineWrap::read_tensor(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    constexpr const char* kOp = "readTensor";
    const TensorKind kind = to_tensor_kind(info[0], kOp);
    const int64_t index = to_integer(info[1], kOp, "index", 0, INT32_MAX);
    using Floats = std::vector<float>;
    return submit<Floats>(
        info.Env(),
        [kind, index](DeviceState& state) {
          Floats values(static_cast<size_t>(state.parameter(index, kOp).num_elements()));
          state.read_tensor(kind, index, values.data());
          return values;
        },
        [](Napi::Env env, const Floats& values) { return to_float32_array(env, values); });
  });
}

// writeTensor(kind, index, values: Float32Array)
Napi::Value EngineWrap::write_tensor(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    constexpr const char* kOp = "writeTensor";
    const TensorKind kind = to_tensor_kind(info[0], kOp);
    const int64_t index = to_integer(info[1], kOp, "index", 0, INT32_MAX);
    auto values = std::make_shared<std::vector<float>>(to_floats(info[2], kOp, "values"));
    return submit(info.Env(), [kind, index, values](DeviceState& state) {
      const Parameter& parameter = state.parameter(index, kOp);
      WS_CHECK(static_cast<int64_t>(values->size()) == parameter.num_elements(), kInvalidArgument, kOp,
               parameter.name + " has " + std::to_string(parameter.num_elements()) + " elements, got " +
                   std::to_string(values->size()));
      state.write_tensor(kind, index, values->data());
    });
  });
}

// initialize(seed: bigint, std)
Napi::Value EngineWrap::initialize(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const uint64_t seed = to_uint64(info[0], "initialize", "seed");
    const double std = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : NAN;
    if (!(std >= 0) || !std::isfinite(std)) throw_invalid("initialize", "std must be a number of at least 0");
    return submit(info.Env(), [seed, std](DeviceState& state) { state.initialize(seed, std); });
  });
}

// trainingState() -> { numSteps, policyVersion }
Napi::Value EngineWrap::training_state(const Napi::CallbackInfo& info) {
  using State = std::pair<int64_t, uint64_t>;
  return guard(info.Env(), [&] {
    return submit<State>(
        info.Env(), [](DeviceState& state) { return State(state.num_optimizer_steps(), state.policy_version()); },
        [](Napi::Env env, const State& state) {
          Napi::Object object = Napi::Object::New(env);
          object.Set("numSteps", Napi::Number::New(env, static_cast<double>(state.first)));
          object.Set("policyVersion", Napi::BigInt::New(env, state.second));
          return object;
        });
  });
}

// setTrainingState(numSteps, policyVersion: bigint)
Napi::Value EngineWrap::set_training_state(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    constexpr const char* kOp = "setTrainingState";
    const int64_t steps = to_integer(info[0], kOp, "numSteps", 0, kMaxSafeInteger);
    const uint64_t version = to_uint64(info[1], kOp, "policyVersion");
    return submit(info.Env(), [steps, version](DeviceState& state) {
      state.set_num_optimizer_steps(steps);
      state.set_version(version);
    });
  });
}

// ---- facts

// info() -> { device, parameters }
Napi::Value EngineWrap::info(const Napi::CallbackInfo& info) {
  using Info = std::pair<std::string, std::vector<Parameter>>;
  return guard(info.Env(), [&] {
    return submit<Info>(
        info.Env(), [](DeviceState& state) { return Info(state.device_name(), state.model().parameters()); },
        [](Napi::Env env, const Info& result) {
          Napi::Object object = Napi::Object::New(env);
          object.Set("device", result.first);
          object.Set("parameters", to_js(env, result.second));
          return object;
        });
  });
}

Napi::Value EngineWrap::stats(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    return submit<EngineStats>(
        info.Env(), [](DeviceState& state) { return state.stats(); },
        [](Napi::Env env, const EngineStats& stats) { return to_js(env, stats); });
  });
}

}  // namespace wideseek
