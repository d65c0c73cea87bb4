// The operations of the engine thread on backend, model, generator and trainer.
#include "engine/device_state.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/stopwatch.h"

namespace wideseek {

DeviceState::DeviceState(const EngineOptions& options)
    : generator_options_(options.generator),
      trainer_options_(options.trainer),
      backend_(
          create_backend(options.device, options.num_threads, options.weight_dtype, options.pinned_optimizer_state)),
      train_while_generating_(options.train_while_generating) {
  model_ = std::make_unique<Model>(*backend_, options.config, options.weight_dtype);
  plan_.weights = backend_->memory_info().allocated_bytes;
  model_->reserve_inference(options.generator.max_batch_tokens, options.generator.max_context_tokens);
  plan_.inference = backend_->memory_info().allocated_bytes - plan_.weights;
  // The activations of training lie in the memory of the KV cache, unless both are needed at once.
  const int64_t pass = train_while_generating_ ? 0 : Trainer::pass_bytes(*model_, options.trainer);
  plan_.training = Trainer::planned_bytes(*model_, options.trainer) - pass;
  if (options.pinned_optimizer_state) plan_.training -= Trainer::optimizer_state_bytes(*model_);
  if (generator_options_.kv_cache_tokens == 0) {
    generator_options_.kv_cache_tokens =
        std::min(tokens_that_fit(backend_->memory_info().free_bytes - plan_.training, pass,
                                 Generator::cache_bytes(*model_, 1), options.generator.max_context_tokens),
                 // Every sequence that can run at one time, at its longest.
                 options.generator.max_batch_tokens * options.generator.max_context_tokens);
  }
  generator_ = std::make_unique<Generator>(*backend_, *model_, generator_options_);
  plan_.kv_cache = generator_->kv_cache_bytes();
  plan_.training += std::max<int64_t>(0, pass - plan_.kv_cache);
}

int64_t tokens_that_fit(int64_t bytes, int64_t pass_bytes, int64_t token_bytes, int64_t max_context_tokens) {
  // For what operations take for their own time, and for what a driver gives out in whole pages.
  const int64_t usable = bytes - bytes / 32 - (int64_t{256} << 20);
  const int64_t least = std::max(pass_bytes, max_context_tokens * token_bytes);
  const auto mebibytes = [](int64_t count) { return std::to_string((count + (1 << 20) - 1) >> 20) + " MiB"; };
  WS_CHECK(usable >= least, kOutOfMemory, "NativeEngine",
           "the device has " + mebibytes(std::max<int64_t>(usable, 0)) +
               " left beside weights, gradients and optimizer, but one training pass takes " + mebibytes(pass_bytes) +
               " and one context of " + std::to_string(max_context_tokens) + " tokens " +
               mebibytes(max_context_tokens * token_bytes) +
               "; lower maxTrainTokens or maxContextTokens, set recompute to full, gradientDtype to bfloat16 or "
               "pinnedOptimizerState");
  return std::min<int64_t>(usable / token_bytes, int64_t{1} << 30);
}

EngineStats DeviceState::stats() const {
  EngineStats stats{generator_->stats(), training_seconds_, plan_, policy_version_};
  const MemoryInfo memory = backend_->memory_info();
  stats.memory.allocated = memory.allocated_bytes;
  stats.memory.peak = memory.peak_bytes;
  return stats;
}

void DeviceState::check_idle(const char* op) const {
  const GeneratorStats stats = generator_->stats();
  WS_CHECK(generator_->idle(), kInvalidState, op,
           std::to_string(stats.num_running + stats.num_waiting) +
               " requests are still generating; await them (or abort them) before changing what they sample from");
}

Trainer& DeviceState::trainer() {
  if (!trainer_) {
    Trainer::LendMemory lend = [this](int64_t bytes) { return generator_->lend_cache(bytes); };
    if (train_while_generating_) lend = nullptr;
    trainer_ = std::make_unique<Trainer>(*model_, trainer_options_, std::move(lend));
  }
  return *trainer_;
}

void DeviceState::weights_changed() { generator_->clear_prefix_cache(); }

const Parameter& DeviceState::parameter(int64_t index, const char* op) const {
  const int64_t count = static_cast<int64_t>(model_->parameters().size());
  WS_CHECK(index >= 0 && index < count, kInvalidArgument, op,
           "parameter index " + std::to_string(index) + ", but the model has " + std::to_string(count));
  return model_->parameters()[index];
}

std::vector<float> DeviceState::logits(const std::vector<int32_t>& token_ids) {
  const int64_t num_tokens = static_cast<int64_t>(token_ids.size());
  WS_CHECK(num_tokens >= 1 && num_tokens <= generator_options_.max_context_tokens, kInvalidArgument, "logits",
           std::to_string(num_tokens) + " tokens, must be from 1 to maxContextTokens " +
               std::to_string(generator_options_.max_context_tokens));
  const int64_t vocab_size = model_->config().vocab_size;
  const int64_t num_blocks = (num_tokens + KvCache::kBlockTokens - 1) / KvCache::kBlockTokens;
  KvCache cache(*backend_, model_->config(), num_blocks);
  std::vector<int32_t> block_table(static_cast<size_t>(num_blocks));
  std::iota(block_table.begin(), block_table.end(), 0);
  std::vector<float> logits(static_cast<size_t>(num_tokens * vocab_size));
  for (int64_t first = 0; first < num_tokens; first += generator_options_.max_batch_tokens) {
    const int64_t num_rows = std::min(generator_options_.max_batch_tokens, num_tokens - first);
    std::vector<int32_t> rows(static_cast<size_t>(num_rows));
    std::iota(rows.begin(), rows.end(), 0);
    const SequenceSlice slice{0, num_rows, first, block_table.data()};
    model_->forward({token_ids.data() + first, num_rows, &slice, 1, rows.data(), num_rows}, cache,
                    [&](int64_t row, int64_t count, const float* chunk) {
                      backend_->download(logits.data() + (first + row) * vocab_size, chunk,
                                         count * vocab_size * static_cast<int64_t>(sizeof(float)));
                    });
  }
  return logits;
}

void DeviceState::write_parameter(int64_t index, const void* data, DType dtype) {
  check_idle("writeParameter");
  parameter(index, "writeParameter");
  model_->write_parameter(index, data, dtype);
  weights_changed();
}

void DeviceState::initialize(uint64_t seed, double std) {
  check_idle("initialize");
  model_->initialize(seed, std);
  weights_changed();
}

void DeviceState::set_version(uint64_t version) {
  check_idle("setVersion");
  policy_version_ = version;
}

void DeviceState::logprobs(const PackedBatch& batch, float temperature, float* logprobs, float* entropies) {
  const Stopwatch watch(training_seconds_);
  trainer().logprobs(batch, temperature, logprobs, entropies);
}

LossStats DeviceState::forward_backward(const PackedBatch& batch, const LossSettings& loss) {
  if (!train_while_generating_) check_idle("forwardBackward");
  const Stopwatch watch(training_seconds_);
  return trainer().forward_backward(batch, loss, nullptr);
}

OptimizerStepResult DeviceState::optimizer_step(const OptimizerSettings& settings) {
  check_idle("optimizerStep");
  const Stopwatch watch(training_seconds_);
  const OptimizerStepResult result = trainer().optimizer_step(settings);
  if (!result.skipped) {
    ++policy_version_;
    weights_changed();
  }
  return result;
}

void DeviceState::zero_gradients() {
  check_idle("zeroGradients");
  trainer().zero_gradients();
}

void DeviceState::read_tensor(TensorKind kind, int64_t index, float* data) {
  parameter(index, "readTensor");
  // Weights alone do not need the trainer's memory.
  if (kind == TensorKind::kWeight && !trainer_) {
    model_->read_parameter(index, data, DType::kFloat32);
  } else {
    trainer().read_tensor(kind, index, data);
  }
}

void DeviceState::write_tensor(TensorKind kind, int64_t index, const float* data) {
  check_idle("writeTensor");
  parameter(index, "writeTensor");
  trainer().write_tensor(kind, index, data);
  if (kind == TensorKind::kWeight) weights_changed();
}

int64_t DeviceState::num_optimizer_steps() { return trainer_ ? trainer_->num_steps() : 0; }

void DeviceState::set_num_optimizer_steps(int64_t steps) {
  check_idle("setNumOptimizerSteps");
  WS_CHECK(steps >= 0, kInvalidArgument, "setNumOptimizerSteps", "the number of steps must not be negative");
  trainer().set_num_steps(steps);
}

}  // namespace wideseek
