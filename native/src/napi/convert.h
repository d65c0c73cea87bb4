// JavaScript values to native structs and back; the fields are those of packages/engine/src/binding.ts, in its order.
// Everything is copied, so a caller may reuse its arrays. Throws Error kInvalidArgument naming the field.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace wideseek {

// Reads one object argument, field by field.
class Fields {
 public:
  Fields(const Napi::Value& value, const char* op, const std::string& what);

  bool has(const char* name) const;
  double number(const char* name) const;  // any number but NaN
  int64_t integer(const char* name, int64_t min, int64_t max = (int64_t{1} << 53) - 1) const;
  bool boolean(const char* name) const;
  std::string string(const char* name) const;
  uint64_t uint64(const char* name) const;  // BigInt
  std::vector<int32_t> int32s(const char* name) const;
  // `length` entries exactly.
  std::vector<float> floats(const char* name, size_t length) const;
  Fields object(const char* name) const;

 private:
  Napi::Value get(const char* name) const;
  [[noreturn]] void fail(const char* name, const std::string& expected) const;

  Napi::Object object_;
  const char* op_;
  std::string what_;
};

// Arrays of a batch in native memory.
struct OwnedBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> cu_seqlens;
  std::vector<float> loss_weights;
  std::vector<float> advantages;
  std::vector<float> behavior_logprobs;
  std::vector<float> ref_logprobs;
  PackedBatch view() const;
};

[[noreturn]] void throw_invalid(const char* op, const std::string& message);

EngineOptions to_engine_options(const Napi::Value& value);
ModelConfig to_model_config(const Fields& fields);
SamplingSettings to_sampling_settings(const Fields& fields);
GenerateRequest to_generate_request(const Napi::Value& value);
OwnedBatch to_token_batch(const Napi::Value& value);  // tokenIds and cuSeqlens only
OwnedBatch to_training_batch(const Napi::Value& value, const LossSettings& loss);
LossSettings to_loss_settings(const Napi::Value& value);
OptimizerSettings to_optimizer_settings(const Napi::Value& value);
DType to_dtype(const Napi::Value& value, const char* op);
TensorKind to_tensor_kind(const Napi::Value& value, const char* op);
// An integer argument from min to max.
int64_t to_integer(const Napi::Value& value, const char* op, const char* what, int64_t min, int64_t max);
uint64_t to_uint64(const Napi::Value& value, const char* op, const char* what);
std::vector<float> to_floats(const Napi::Value& value, const char* op, const char* what);
std::vector<int32_t> to_int32s(const Napi::Value& value, const char* op, const char* what);

Napi::Float32Array to_float32_array(Napi::Env env, const std::vector<float>& values);
Napi::Object to_js(Napi::Env env, const Completion& completion);
Napi::Object to_js(Napi::Env env, const LossStats& stats);
Napi::Object to_js(Napi::Env env, const OptimizerStepResult& result);
Napi::Object to_js(Napi::Env env, const EngineStats& stats);
Napi::Array to_js(Napi::Env env, const std::vector<Parameter>& parameters);

}  // namespace wideseek
