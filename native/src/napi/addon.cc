// Registration of the addon: the engine class and two pure functions.
#include <napi.h>

#include <cmath>
#include <vector>

#include "backend.h"
#include "model/rope_table.h"
#include "napi/convert.h"
#include "napi/engine_wrap.h"
#include "napi/errors.h"

namespace wideseek {
namespace {

// filterProbabilities(logits: Float32Array, sampling, historyIds: Int32Array) -> Float64Array
Napi::Value filter_probabilities_js(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    constexpr const char* kOp = "filterProbabilities";
    const std::vector<float> logits = to_floats(info[0], kOp, "logits");
    const SamplingSettings sampling = to_sampling_settings(Fields(info[1], kOp, "sampling"));
    const std::vector<int32_t> history = to_int32s(info[2], kOp, "historyIds");
    if (logits.empty()) throw_invalid(kOp, "logits is empty");
    for (const float logit : logits) {
      if (!std::isfinite(logit)) throw_invalid(kOp, "logits has " + std::to_string(logit) + ", must be finite");
    }
    for (const int32_t token : history) {
      if (token < 0 || token >= static_cast<int64_t>(logits.size())) {
        throw_invalid(kOp, "historyIds has " + std::to_string(token) + ", which is outside the vocabulary");
      }
    }
    validate(sampling);
    Napi::Float64Array probabilities = Napi::Float64Array::New(info.Env(), logits.size());
    filter_probabilities(logits.data(), static_cast<int64_t>(logits.size()), sampling,
                         {history.data(), static_cast<int64_t>(history.size())}, probabilities.Data());
    return probabilities;
  });
}

// ropeTable(config, numPositions) -> { cos, sin: Float32Array [numPositions, headDim/2] }
Napi::Value rope_table_js(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const ModelConfig config = to_model_config(Fields(info[0], "ropeTable", "config"));
    validate(config);
    const int64_t count = to_integer(info[1], "ropeTable", "numPositions", 1, config.max_position_embeddings);
    const size_t size = static_cast<size_t>(count * config.head_dim / 2);
    Napi::Float32Array cos = Napi::Float32Array::New(info.Env(), size);
    Napi::Float32Array sin = Napi::Float32Array::New(info.Env(), size);
    fill_rope_table(config, count, cos.Data(), sin.Data());
    Napi::Object tables = Napi::Object::New(info.Env());
    tables.Set("cos", cos);
    tables.Set("sin", sin);
    return tables;
  });
}

Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeEngine", EngineWrap::define(env));
  exports.Set("filterProbabilities", Napi::Function::New<filter_probabilities_js>(env));
  exports.Set("ropeTable", Napi::Function::New<rope_table_js>(env));
  return exports;
}

NODE_API_MODULE(wideseek, initialize_addon)

}  // namespace
}  // namespace wideseek
