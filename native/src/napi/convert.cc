// Argument checks and field lists of the boundary.
#include "napi/convert.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace wideseek {
namespace {

// What was got, for messages; never the value of a string.
std::string describe(const Napi::Value& value) {
  if (value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsNumber()) return std::to_string(value.As<Napi::Number>().DoubleValue());
  if (value.IsBoolean()) return "a boolean";
  if (value.IsString()) return "a string";
  if (value.IsBigInt()) return "a BigInt";
  if (value.IsFunction()) return "a function";
  if (value.IsTypedArray()) return "another typed array";
  return "an object";
}

template <typename T>
std::vector<T> copy_typed_array(const Napi::Value& value) {
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  return std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}

bool is_array_of(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

void set_number(Napi::Object& object, const char* name, double value) {
  object.Set(name, Napi::Number::New(object.Env(), value));
}
void set_count(Napi::Object& object, const char* name, int64_t value) {
  set_number(object, name, static_cast<double>(value));
}

}  // namespace

void throw_invalid(const char* op, const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, op, message);
}

// ---- Fields

Fields::Fields(const Napi::Value& value, const char* op, const std::string& what) : op_(op), what_(what) {
  if (!value.IsObject()) throw_invalid(op, what + " must be an object, got " + describe(value));
  object_ = value.As<Napi::Object>();
}

Napi::Value Fields::get(const char* name) const { return object_.Get(name); }

void Fields::fail(const char* name, const std::string& expected) const {
  throw_invalid(op_, what_ + "." + name + " must be " + expected + ", got " + describe(get(name)));
}

bool Fields::has(const char* name) const { return !get(name).IsUndefined(); }

double Fields::number(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsNumber()) fail(name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (std::isnan(number)) fail(name, "a number, not NaN");
  return number;
}

int64_t Fields::integer(const char* name, int64_t min, int64_t max) const {
  const Napi::Value value = get(name);
  const std::string expected = "an integer from " + std::to_string(min) + " to " + std::to_string(max);
  if (!value.IsNumber()) fail(name, expected);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || number != std::floor(number)) {
    fail(name, expected);
  }
  return static_cast<int64_t>(number);
}

bool Fields::boolean(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsBoolean()) fail(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string Fields::string(const char* name) const {
  const Napi::Value value = get(name);
  if (!value.IsString()) fail(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

uint64_t Fields::uint64(const char* name) const { return to_uint64(get(name), op_, (what_ + "." + name).c_str()); }

std::vector<int32_t> Fields::int32s(const char* name) const {
  const Napi::Value value = get(name);
  if (!is_array_of(value, napi_int32_array)) fail(name, "an Int32Array");
  return copy_typed_array<int32_t>(value);
}

std::vector<float> Fields::floats(const char* name, size_t length) const {
  const Napi::Value value = get(name);
  if (!is_array_of(value, napi_float32_array)) fail(name, "a Float32Array");
  std::vector<float> values = copy_typed_array<float>(value);
  if (values.size() != length) {
    throw_invalid(op_, what_ + "." + name + " has " + std::to_string(values.size()) + " entries, tokenIds has " +
                           std::to_string(length));
  }
  return values;
}

Fields Fields::object(const char* name) const { return Fields(get(name), op_, what_ + "." + name); }

// ---- JavaScript to native

namespace {

DType to_dtype(const Fields& fields, const char* name) {
  const std::string dtype = fields.string(name);
  if (dtype == "float32") return DType::kFloat32;
  if (dtype == "bfloat16") return DType::kBFloat16;
  throw_invalid("NativeEngine", "options." + std::string(name) + " must be \"float32\" or \"bfloat16\"");
}

Recompute to_recompute(const std::string& name) {
  if (name == "none") return Recompute::kNone;
  if (name == "selective") return Recompute::kSelective;
  if (name == "full") return Recompute::kFull;
  throw_invalid("NativeEngine", "options.recompute must be \"none\", \"selective\" or \"full\"");
}

}  // namespace

EngineOptions to_engine_options(const Napi::Value& value) {
  const Fields fields(value, "NativeEngine", "options");
  EngineOptions options;
  options.device = fields.string("device");
  options.num_threads = static_cast<int>(fields.integer("threads", 1, 1024));
  options.config = to_model_config(fields.object("config"));
  options.weight_dtype = to_dtype(fields, "weightDtype");
  options.generator.max_context_tokens = fields.integer("maxContextTokens", 1, INT32_MAX);
  options.generator.kv_cache_tokens = fields.integer("kvCacheTokens", 0, INT32_MAX);
  options.generator.max_batch_tokens = fields.integer("maxBatchTokens", 1, INT32_MAX);
  options.generator.max_draft_tokens = fields.integer("maxDraftTokens", 0, INT32_MAX);
  options.trainer.max_tokens = fields.integer("maxTrainTokens", 1, INT32_MAX);
  options.trainer.recompute = to_recompute(fields.string("recompute"));
  options.trainer.gradient_dtype = to_dtype(fields, "gradientDtype");
  options.pinned_optimizer_state = fields.boolean("pinnedOptimizerState");
  options.train_while_generating = fields.boolean("trainWhileGenerating");
  return options;
}

namespace {

MoeConfig to_moe_config(const Fields& fields, int64_t num_layers) {
  MoeConfig moe;
  moe.num_experts = fields.integer("numExperts", 1, INT32_MAX);
  moe.experts_per_token = fields.integer("expertsPerToken", 1, INT32_MAX);
  moe.intermediate_size = fields.integer("intermediateSize", 1, INT32_MAX);
  moe.normalize_shares = fields.boolean("normalizeShares");
  for (const int32_t layer : fields.int32s("layers")) {
    if (layer < 0 || layer >= num_layers) throw_invalid("NativeEngine", "options.config.moe.layers names no layer");
    moe.layers.resize(static_cast<size_t>(num_layers));  // all false
    moe.layers[static_cast<size_t>(layer)] = true;
  }
  return moe;
}

}  // namespace

ModelConfig to_model_config(const Fields& fields) {
  ModelConfig config;
  config.vocab_size = fields.integer("vocabSize", 1, INT32_MAX);
  config.hidden_size = fields.integer("hiddenSize", 1, INT32_MAX);
  config.intermediate_size = fields.integer("intermediateSize", 1, INT32_MAX);
  config.num_layers = fields.integer("numLayers", 1, INT32_MAX);
  config.num_heads = fields.integer("numHeads", 1, INT32_MAX);
  config.num_kv_heads = fields.integer("numKvHeads", 1, INT32_MAX);
  config.head_dim = fields.integer("headDim", 1, INT32_MAX);
  config.max_position_embeddings = fields.integer("maxPositionEmbeddings", 1, INT32_MAX);
  config.rms_norm_eps = fields.number("rmsNormEps");
  config.rope_theta = fields.number("ropeTheta");
  if (fields.has("yarn")) {
    const Fields yarn = fields.object("yarn");
    config.yarn = YarnConfig{yarn.number("factor"), yarn.number("originalMaxPositionEmbeddings"),
                             yarn.number("betaFast"), yarn.number("betaSlow"), yarn.number("attentionFactor")};
  }
  config.tie_word_embeddings = fields.boolean("tieWordEmbeddings");
  config.qkv_bias = fields.boolean("qkvBias");
  config.qk_norm = fields.boolean("qkNorm");
  if (fields.has("moe")) config.moe = to_moe_config(fields.object("moe"), config.num_layers);
  return config;
}

SamplingSettings to_sampling_settings(const Fields& fields) {
  SamplingSettings sampling;
  sampling.temperature = static_cast<float>(fields.number("temperature"));
  sampling.top_p = static_cast<float>(fields.number("topP"));
  sampling.top_k = fields.integer("topK", 0);
  sampling.min_p = static_cast<float>(fields.number("minP"));
  if (fields.has("repetitionPenalty")) {
    sampling.repetition_penalty = static_cast<float>(fields.number("repetitionPenalty"));
  }
  return sampling;
}

GenerateRequest to_generate_request(const Napi::Value& value) {
  const Fields fields(value, "generate", "request");
  GenerateRequest request;
  request.prompt_ids = fields.int32s("promptIds");
  request.max_new_tokens = fields.integer("maxNewTokens", 1);
  request.seed = fields.uint64("seed");
  request.sampling = to_sampling_settings(fields.object("sampling"));
  request.stop_token_ids = fields.int32s("stopTokenIds");
  return request;
}

PackedBatch OwnedBatch::view() const {
  const auto data = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
  return {static_cast<int64_t>(token_ids.size()),
          static_cast<int64_t>(cu_seqlens.size()) - 1,
          token_ids.data(),
          cu_seqlens.data(),
          data(loss_weights),
          data(advantages),
          data(behavior_logprobs),
          data(ref_logprobs)};
}

OwnedBatch to_token_batch(const Napi::Value& value) {
  constexpr const char* kOp = "batch";
  const Fields fields(value, kOp, "batch");
  OwnedBatch batch;
  batch.token_ids = fields.int32s("tokenIds");
  batch.cu_seqlens = fields.int32s("cuSeqlens");
  const int64_t num_tokens = static_cast<int64_t>(batch.token_ids.size());
  const std::vector<int32_t>& ends = batch.cu_seqlens;
  if (ends.size() < 2 || ends.front() != 0 || ends.back() != num_tokens) {
    throw_invalid(kOp, "batch.cuSeqlens must go from 0 to " + std::to_string(num_tokens) + ", the number of tokenIds");
  }
  for (size_t i = 1; i < ends.size(); ++i) {
    if (ends[i] <= ends[i - 1]) {
      throw_invalid(kOp, "batch.cuSeqlens must increase, but entry " + std::to_string(i) + " is " +
                             std::to_string(ends[i]) + " after " + std::to_string(ends[i - 1]));
    }
  }
  return batch;
}

OwnedBatch to_training_batch(const Napi::Value& value, const LossSettings& loss) {
  OwnedBatch batch = to_token_batch(value);
  const Fields fields(value, "batch", "batch");
  const size_t num_tokens = batch.token_ids.size();
  batch.loss_weights = fields.floats("lossWeights", num_tokens);
  batch.advantages = fields.floats("advantages", num_tokens);
  batch.behavior_logprobs = fields.floats("behaviorLogprobs", num_tokens);
  if (fields.has("refLogprobs")) {
    batch.ref_logprobs = fields.floats("refLogprobs", num_tokens);
  } else if (loss.kl_coefficient != 0) {
    throw_invalid("batch", "batch.refLogprobs is required because klCoefficient is not 0");
  }
  return batch;
}

LossSettings to_loss_settings(const Napi::Value& value) {
  const Fields fields(value, "forwardBackward", "loss");
  const std::string kind = fields.string("kind");
  if (kind == "nll") return {LossKind::kNll, 1, 0, 0, INFINITY, 0};
  if (kind != "grpo") throw_invalid("forwardBackward", "loss.kind must be \"nll\" or \"grpo\"");
  return {LossKind::kGrpo,
          static_cast<float>(fields.number("temperature")),
          static_cast<float>(fields.number("clipLow")),
          static_cast<float>(fields.number("clipHigh")),
          static_cast<float>(fields.number("dualClip")),
          static_cast<float>(fields.number("klCoefficient"))};
}

OptimizerSettings to_optimizer_settings(const Napi::Value& value) {
  const Fields fields(value, "optimizerStep", "settings");
  return {fields.number("learningRate"), fields.number("maxGradNorm"), fields.number("beta1"),
          fields.number("beta2"),        fields.number("epsilon"),     fields.number("weightDecay")};
}

DType to_dtype(const Napi::Value& value, const char* op) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  throw_invalid(op, "dtype must be \"float32\", \"bfloat16\" or \"float16\", got " + describe(value));
}

TensorKind to_tensor_kind(const Napi::Value& value, const char* op) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "weight") return TensorKind::kWeight;
  if (name == "gradient") return TensorKind::kGradient;
  if (name == "firstMoment") return TensorKind::kFirstMoment;
  if (name == "secondMoment") return TensorKind::kSecondMoment;
  throw_invalid(op, "kind must be weight, gradient, firstMoment or secondMoment, got " + describe(value));
}

int64_t to_integer(const Napi::Value& value, const char* op, const char* what, int64_t min, int64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || number != std::floor(number)) {
    throw_invalid(op, std::string(what) + " must be an integer from " + std::to_string(min) + " to " +
                          std::to_string(max) + ", got " + describe(value));
  }
  return static_cast<int64_t>(number);
}

uint64_t to_uint64(const Napi::Value& value, const char* op, const char* what) {
  bool lossless = false;
  const uint64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) {
    throw_invalid(op, std::string(what) + " must be a BigInt from 0 to 2^64-1, got " + describe(value));
  }
  return number;
}

std::vector<float> to_floats(const Napi::Value& value, const char* op, const char* what) {
  if (!is_array_of(value, napi_float32_array)) {
    throw_invalid(op, std::string(what) + " must be a Float32Array, got " + describe(value));
  }
  return copy_typed_array<float>(value);
}

std::vector<int32_t> to_int32s(const Napi::Value& value, const char* op, const char* what) {
  if (!is_array_of(value, napi_int32_array)) {
    throw_invalid(op, std::string(what) + " must be an Int32Array, got " + describe(value));
  }
  return copy_typed_array<int32_t>(value);
}

// ---- native to JavaScript

Napi::Float32Array to_float32_array(Napi::Env env, const std::vector<float>& values) {
  Napi::Float32Array array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Object to_js(Napi::Env env, const Completion& completion) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Int32Array token_ids = Napi::Int32Array::New(env, completion.token_ids.size());
  std::copy(completion.token_ids.begin(), completion.token_ids.end(), token_ids.Data());
  object.Set("tokenIds", token_ids);
  object.Set("logprobs", to_float32_array(env, completion.logprobs));
  object.Set("finishReason", completion.finish_reason == FinishReason::kStop ? "stop" : "length");
  object.Set("policyVersion", Napi::BigInt::New(env, completion.policy_version));
  set_count(object, "numCachedTokens", completion.num_cached_tokens);
  return object;
}

Napi::Object to_js(Napi::Env env, const LossStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  set_count(object, "numTokens", stats.num_tokens);
  set_number(object, "loss", stats.loss);
  set_number(object, "policyLoss", stats.policy_loss);
  set_number(object, "sumRatio", stats.sum_ratio);
  set_number(object, "maxRatio", stats.max_ratio);
  set_number(object, "minRatio", stats.min_ratio);
  set_count(object, "numClippedLow", stats.num_clipped_low);
  set_count(object, "numClippedHigh", stats.num_clipped_high);
  set_count(object, "numDualClipped", stats.num_dual_clipped);
  set_number(object, "sumKlK1", stats.sum_kl_k1);
  set_number(object, "sumKlK3", stats.sum_kl_k3);
  set_number(object, "sumRefKlK3", stats.sum_ref_kl_k3);
  set_number(object, "sumEntropy", stats.sum_entropy);
  set_number(object, "sumNll", stats.sum_nll);
  set_number(object, "maxAbsLogprobDiff", stats.max_abs_logprob_diff);
  return object;
}

Napi::Object to_js(Napi::Env env, const OptimizerStepResult& result) {
  Napi::Object object = Napi::Object::New(env);
  set_number(object, "gradNorm", result.grad_norm);
  object.Set("skipped", result.skipped);
  return object;
}

Napi::Object to_js(Napi::Env env, const EngineStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  const GeneratorStats& generator = stats.generator;
  set_count(object, "numSteps", generator.num_steps);
  set_count(object, "numComputedTokens", generator.num_computed_tokens);
  set_count(object, "numGeneratedTokens", generator.num_generated_tokens);
  set_count(object, "numCachedTokens", generator.num_cached_tokens);
  set_count(object, "numDraftTokens", generator.num_draft_tokens);
  set_count(object, "numRightDrafts", generator.num_right_drafts);
  set_count(object, "numPreemptions", generator.num_preemptions);
  set_count(object, "numRunning", generator.num_running);
  set_count(object, "numWaiting", generator.num_waiting);
  set_count(object, "numBlocks", generator.num_blocks);
  set_count(object, "numBlocksUsed", generator.num_blocks_used);
  set_count(object, "numBlocksCached", generator.num_blocks_cached);
  set_count(object, "maxBlocksUsed", generator.max_blocks_used);
  set_number(object, "generatingSeconds", generator.forward_seconds);
  set_number(object, "trainingSeconds", stats.training_seconds);
  Napi::Object memory = Napi::Object::New(env);
  constexpr double kMiB = 1 << 20;
  set_number(memory, "weightsMiB", static_cast<double>(stats.memory.weights) / kMiB);
  set_number(memory, "kvCacheMiB", static_cast<double>(stats.memory.kv_cache) / kMiB);
  set_number(memory, "inferenceMiB", static_cast<double>(stats.memory.inference) / kMiB);
  set_number(memory, "trainingMiB", static_cast<double>(stats.memory.training) / kMiB);
  set_number(memory, "allocatedMiB", static_cast<double>(stats.memory.allocated) / kMiB);
  set_number(memory, "peakMiB", static_cast<double>(stats.memory.peak) / kMiB);
  object.Set("memory", memory);
  object.Set("policyVersion", Napi::BigInt::New(env, stats.policy_version));
  return object;
}

Napi::Array to_js(Napi::Env env, const std::vector<Parameter>& parameters) {
  Napi::Array array = Napi::Array::New(env, parameters.size());
  for (uint32_t i = 0; i < parameters.size(); ++i) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", parameters[i].name);
    Napi::Array shape = Napi::Array::New(env, parameters[i].shape.size());
    for (uint32_t d = 0; d < parameters[i].shape.size(); ++d) {
      shape.Set(d, Napi::Number::New(env, static_cast<double>(parameters[i].shape[d])));
    }
    object.Set("shape", shape);
    object.Set("decayed", parameters[i].decayed);
    array.Set(i, object);
  }
  return array;
}

}  // namespace wideseek
