// Times the training step of one model shape on one device, and on request the ceilings to judge it by: one JSON object
// a line. Random weights and tokens; on CUDA bf16. Every run is a process of its own, so that the peak is that run's.
// Usage: train_shape_bench [--device cpu|cuda] [--shape nano|qwen3-0.6b|qwen3-4b|none] [--tokens N] [--sequences N]
//                          [--recompute none|selective|full] [--repeats N] [--threads N] [--ceilings 0|1] [--attention
//                          N]
// --tokens is the length of a sequence; --ceilings measures the matrix rate and the copy bandwidth, --attention N
// attention over one sequence of N tokens.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "bench/options.h"
#include "bench/shapes.h"
#include "train/trainer.h"

using namespace wideseek;
using bench::config_of, bench::fill_weights, bench::random_values, bench::seconds_now;

namespace {

struct Options {
  std::string device = "cuda", shape = "none";
  int64_t tokens = 2048, sequences = 1, repeats = 3, threads = 2, attention = 0;
  std::string recompute = "none";
  bool ceilings = false;
};

struct Times {
  double min, median, max;  // seconds
};

Times time(Backend& backend, int64_t warm_ups, int64_t repeats, const std::function<void()>& body) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < warm_ups + repeats; ++i) {
    backend.synchronize();
    const double start = seconds_now();
    body();
    backend.synchronize();
    if (i >= warm_ups) seconds.push_back(seconds_now() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2], seconds.back()};
}

// A device array of the backend's activation type, random unless `scale` is 0.
class Activation {
 public:
  Activation(Backend& backend, int64_t count, float scale)
      : dtype_(backend.activation_dtype()), array_(backend, count * dtype_bytes(dtype_)) {
    if (scale == 0) {
      backend.zero(array_.get(), array_.bytes());
      return;
    }
    const std::vector<float> values = random_values(count, scale);
    std::vector<std::byte> converted(static_cast<size_t>(array_.bytes()));
    convert_from_float(values.data(), converted.data(), dtype_, count);
    backend.upload(array_.get(), converted.data(), array_.bytes());
  }
  TypedPointer get() const { return {array_.get(), dtype_}; }

 private:
  DType dtype_;
  DeviceArray<std::byte> array_;
};

void measure_ceilings(Backend& backend, bool on_gpu) {
  const int64_t n = on_gpu ? 8192 : 256;
  const Activation x(backend, n * n, 1), out(backend, n * n, 0);
  const std::unique_ptr<Weight> weight = backend.create_weight(n, n, backend.activation_dtype());
  DeviceArray<float> source(backend, n * n);
  const std::vector<float> values = random_values(n * n, 1);
  backend.upload(source.get(), values.data(), source.bytes());
  backend.store_weight(*weight, 0, n, source.get());
  const Times product =
      time(backend, 3, 10, [&] { backend.linear_forward(out.get(), x.get(), *weight, nullptr, {}, n); });
  const double operations = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  std::printf("{\"bench\":\"matmul\",\"n\":%lld,\"tflops\":%.4g,\"tflops_min\":%.4g,\"tflops_max\":%.4g}\n",
              static_cast<long long>(n), operations / product.median * 1e-12, operations / product.max * 1e-12,
              operations / product.min * 1e-12);
  const int64_t bytes = on_gpu ? int64_t{4} << 30 : int64_t{1} << 24;
  DeviceArray<std::byte> from(backend, bytes), to(backend, bytes);
  // No zeros: some memories move them faster.
  const int64_t part = std::min(bytes, source.bytes());
  for (int64_t i = 0; i < bytes; i += part) backend.copy(from.get() + i, source.get(), std::min(part, bytes - i));
  const Times copy = time(backend, 3, 10, [&] { backend.copy(to.get(), from.get(), bytes); });
  std::printf("{\"bench\":\"copy\",\"bytes\":%lld,\"tb_per_s\":%.4g}\n", static_cast<long long>(bytes),
              2.0 * static_cast<double>(bytes) / copy.median * 1e-12);
}

void measure_attention(Backend& backend, int64_t length) {
  constexpr AttentionShape kShape{32, 8, 128};
  const int64_t num_blocks = (length + kKvBlockTokens - 1) / kKvBlockTokens;
  const int64_t block_elements = kKvBlockTokens * kShape.num_kv_heads * kShape.head_dim;
  const int64_t out_size = kShape.num_heads * kShape.head_dim;
  const Activation qkv(backend, length * kShape.qkv_size(), 1), dqkv(backend, length * kShape.qkv_size(), 0);
  const Activation out(backend, length * out_size, 0), dout(backend, length * out_size, 1);
  const Activation kv(backend, 4 * num_blocks * block_elements, 0);
  DeviceArray<float> lse(backend, length * kShape.num_heads);
  const int64_t part = num_blocks * block_elements;
  const KvBlocks cache{kv.get(), kv.get() + part}, dcache{kv.get() + 2 * part, kv.get() + 3 * part};
  std::vector<int32_t> table;
  for (int64_t block = 0; block < num_blocks; ++block) table.push_back(static_cast<int32_t>(block));
  const SequenceSlice slice{0, length, 0, table.data()};
  const std::unique_ptr<AttentionPlan> plan = backend.plan_attention(kShape, &slice, 1);
  backend.kv_store(cache, qkv.get(), *plan);
  const Times forward =
      time(backend, 2, 5, [&] { backend.attention_forward(out.get(), lse.get(), qkv.get(), cache, *plan); });
  const Times backward = time(backend, 2, 5, [&] {
    backend.attention_backward(dqkv.get(), dout.get(), out.get(), lse.get(), qkv.get(), cache, dcache, *plan);
  });
  // Causal: half of all pairs. The backward pass has five products where the forward pass has two.
  const double operations = 2.0 * static_cast<double>(out_size) * static_cast<double>(length * length);
  std::printf("{\"bench\":\"attention\",\"length\":%lld,\"fwd_tflops\":%.4g,\"fwd_min\":%.4g,\"fwd_max\":%.4g,",
              static_cast<long long>(length), operations / forward.median * 1e-12, operations / forward.max * 1e-12,
              operations / forward.min * 1e-12);
  std::printf("\"bwd_tflops\":%.4g,\"bwd_min\":%.4g,\"bwd_max\":%.4g}\n", 2.5 * operations / backward.median * 1e-12,
              2.5 * operations / backward.max * 1e-12, 2.5 * operations / backward.min * 1e-12);
}

// 6 a weight and token, and causal attention's 12 L/2 a head element; recomputation is no useful work and not counted.
double operations_per_token(const ModelConfig& config, int64_t length) {
  const int64_t head_rows = 2 * config.num_heads + 2 * config.num_kv_heads;
  const int64_t layer =
      config.hidden_size * config.head_dim * head_rows + 3 * config.hidden_size * config.intermediate_size;
  const double weights = static_cast<double>(config.num_layers * layer + config.vocab_size * config.hidden_size);
  return 6 * weights + 6.0 * static_cast<double>(config.num_layers * config.num_heads * config.head_dim * length);
}

struct Batch {
  std::vector<int32_t> token_ids, cu_seqlens{0};
  std::vector<float> weights, advantages, behavior;
  PackedBatch view() const {
    return {static_cast<int64_t>(token_ids.size()),
            static_cast<int64_t>(cu_seqlens.size()) - 1,
            token_ids.data(),
            cu_seqlens.data(),
            weights.data(),
            advantages.data(),
            behavior.data(),
            nullptr};
  }
};

Batch random_batch(const Options& options, int64_t vocab_size) {
  Batch batch;
  const auto scale = 1.0f / static_cast<float>(options.sequences * options.tokens);
  for (int64_t s = 0; s < options.sequences; ++s) {
    for (int64_t t = 0; t < options.tokens; ++t) {
      const uint32_t random = philox_block(1, static_cast<uint64_t>(s) + 1, static_cast<uint64_t>(t))[0];
      batch.token_ids.push_back(static_cast<int32_t>(random % static_cast<uint32_t>(vocab_size)));
      batch.weights.push_back(t == 0 ? 0.0f : scale);
      batch.advantages.push_back(s % 2 == 0 ? 1.0f : -1.0f);
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(batch.token_ids.size()));
  }
  batch.behavior.resize(batch.token_ids.size());
  return batch;
}

Recompute recompute_of(const std::string& name) {
  if (name == "none") return Recompute::kNone;
  if (name == "selective") return Recompute::kSelective;
  WS_CHECK(name == "full", kInvalidArgument, "train_shape_bench", "--recompute " + name);
  return Recompute::kFull;
}

void measure_training(const Options& options, Backend& backend) {
  const ModelConfig config = config_of(options.shape);
  const double start = seconds_now();
  Model model(backend, config, backend.activation_dtype());
  fill_weights(backend, model);
  Batch batch = random_batch(options, config.vocab_size);
  const auto tokens = static_cast<int64_t>(batch.token_ids.size());
  const TrainerOptions trainer_options{tokens, recompute_of(options.recompute)};
  const int64_t planned = backend.memory_info().allocated_bytes + Trainer::planned_bytes(model, trainer_options);
  Trainer trainer(model, trainer_options);
  backend.synchronize();
  const double setup = seconds_now() - start;
  std::vector<float> entropies(batch.token_ids.size());
  // The sampling policy is this one, as in training on fresh episodes.
  trainer.logprobs(batch.view(), 1.0f, batch.behavior.data(), entropies.data());
  const LossSettings loss{LossKind::kGrpo, 1.0f, 0.2f, 0.28f, 10.0f, 0.0f};
  const OptimizerSettings adamw{1e-6, 1.0, 0.9, 0.999, 1e-8, 0.01};
  LossStats stats{};
  OptimizerStepResult result{};
  const Times times = time(backend, 1, options.repeats, [&] {
    stats = trainer.forward_backward(batch.view(), loss, nullptr);
    result = trainer.optimizer_step(adamw);
  });
  WS_CHECK(!result.skipped, kInternal, "train_shape_bench", "a gradient was not finite");
  const auto rate = [&](double seconds) { return static_cast<double>(tokens) / seconds; };
  std::printf(
      "{\"bench\":\"train\",\"shape\":\"%s\",\"length\":%lld,\"sequences\":%lld,\"recompute\":\"%s\",\"n\":%lld,",
      options.shape.c_str(), static_cast<long long>(options.tokens), static_cast<long long>(options.sequences),
      options.recompute.c_str(), static_cast<long long>(options.repeats));
  std::printf("\"tokens_per_s\":%.6g,\"tokens_per_s_min\":%.6g,\"tokens_per_s_max\":%.6g,\"model_tflops\":%.4g,",
              rate(times.median), rate(times.max), rate(times.min),
              rate(times.median) * operations_per_token(config, options.tokens) * 1e-12);
  std::printf("\"peak_bytes\":%lld,\"planned_bytes\":%lld,\"setup_s\":%.2f,\"entropy\":%.4f,\"grad_norm\":%.4g}\n",
              static_cast<long long>(backend.memory_info().peak_bytes), static_cast<long long>(planned), setup,
              stats.sum_entropy / static_cast<double>(std::max<int64_t>(1, stats.num_tokens)), result.grad_norm);
}

Options parse(int argc, char** argv) {
  Options options;
  bench::read_options(
      "train_shape_bench", argc, argv,
      {{{"--tokens", &options.tokens},
        {"--sequences", &options.sequences},
        {"--repeats", &options.repeats},
        {"--threads", &options.threads},
        {"--attention", &options.attention}},
       {{"--device", &options.device}, {"--shape", &options.shape}, {"--recompute", &options.recompute}},
       {{"--ceilings", &options.ceilings}}});
  WS_CHECK(options.tokens > 0 && options.sequences > 0 && options.repeats > 0, kInvalidArgument, "train_shape_bench",
           "--tokens, --sequences and --repeats must be at least 1");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program([&] {
    const Options options = parse(argc, argv);
    const bool on_gpu = options.device == "cuda";
    const std::unique_ptr<Backend> backend = bench::backend_of(options.device, options.threads);
    if (options.ceilings) measure_ceilings(*backend, on_gpu);
    if (options.attention > 0) measure_attention(*backend, options.attention);
    if (options.shape != "none") measure_training(options, *backend);
  });
}
