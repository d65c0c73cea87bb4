// Times the training step and its phases, the log-probability pass, prefill and decode, on two model shapes.
// One JSON line per measurement. Arguments: [threads] [repeats] [filter]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "train/trainer.h"

using namespace wideseek;

namespace {

struct Shape {
  const char* name;
  ModelConfig config;
  int64_t num_sequences;
  int64_t sequence_tokens;
};

ModelConfig config_of(int64_t vocab, int64_t hidden, int64_t layers, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      int64_t intermediate) {
  return {.vocab_size = vocab,
          .hidden_size = hidden,
          .intermediate_size = intermediate,
          .num_layers = layers,
          .num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_dim = head_dim,
          .max_position_embeddings = 4096,
          .rms_norm_eps = 1e-6,
          .rope_theta = 1e6,
          .yarn = std::nullopt,
          .tie_word_embeddings = true,
          .qkv_bias = false,
          .qk_norm = true};
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Processor time of all threads: what a step costs when other programs take part of the machine.
double cpu_seconds_now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Bench {
  int num_threads;
  int repeats;
  std::string filter;

  // Median of `repeats` runs after one warm-up.
  void measure(const std::string& shape, const std::string& phase, int64_t tokens, const std::function<void()>& body) {
    const std::string name = shape + "/" + phase;
    if (name.find(filter) == std::string::npos) return;
    body();
    std::vector<double> times;
    const double cpu_start = cpu_seconds_now();
    for (int i = 0; i < repeats; ++i) {
      const double start = seconds_now();
      body();
      times.push_back(seconds_now() - start);
    }
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    const double cpu_seconds = (cpu_seconds_now() - cpu_start) / repeats;
    std::printf(
        "{\"bench\":\"native_train\",\"shape\":\"%s\",\"phase\":\"%s\",\"threads\":%d,\"tokens\":%lld,"
        "\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"tokens_per_second\":%.1f}\n",
        shape.c_str(), phase.c_str(), num_threads, static_cast<long long>(tokens), median, cpu_seconds,
        static_cast<double>(tokens) / median);
    std::fflush(stdout);
  }
};

void bench_training(Bench& bench, Backend& backend, Model& model, const Shape& shape) {
  const int64_t tokens = shape.num_sequences * shape.sequence_tokens;
  std::vector<int32_t> token_ids, cu_seqlens{0};
  std::vector<float> weights, advantages, behavior(static_cast<size_t>(tokens)), entropies(static_cast<size_t>(tokens));
  for (int64_t s = 0; s < shape.num_sequences; ++s) {
    for (int64_t t = 0; t < shape.sequence_tokens; ++t) {
      const uint32_t random = philox_block(1, static_cast<uint64_t>(s), static_cast<uint64_t>(t))[0];
      token_ids.push_back(static_cast<int32_t>(random % static_cast<uint32_t>(shape.config.vocab_size)));
      weights.push_back(t == 0 ? 0.0f : 1.0f / static_cast<float>(tokens));
      advantages.push_back(s % 2 == 0 ? 1.0f : -1.0f);
    }
    cu_seqlens.push_back(static_cast<int32_t>(token_ids.size()));
  }
  const PackedBatch batch{tokens,         shape.num_sequences, token_ids.data(), cu_seqlens.data(),
                          weights.data(), advantages.data(),   behavior.data(),  nullptr};
  Trainer trainer(model, {tokens});
  const LossSettings loss{LossKind::kGrpo, 1.0f, 0.2f, 0.28f, 10.0f, 0.0f};
  const OptimizerSettings adamw{1e-4, 1.0, 0.9, 0.999, 1e-8, 0.01};
  bench.measure(shape.name, "logprobs", tokens,
                [&] { trainer.logprobs(batch, 1.0f, behavior.data(), entropies.data()); });
  bench.measure(shape.name, "forward_backward", tokens, [&] { trainer.forward_backward(batch, loss, nullptr); });
  bench.measure(shape.name, "optimizer_step", tokens, [&] { trainer.optimizer_step(adamw); });
  bench.measure(shape.name, "train_step", tokens, [&] {
    trainer.forward_backward(batch, loss, nullptr);
    trainer.optimizer_step(adamw);
  });
  std::printf("{\"bench\":\"native_train\",\"shape\":\"%s\",\"phase\":\"memory\",\"peak_bytes\":%lld}\n", shape.name,
              static_cast<long long>(backend.memory_info().peak_bytes));
}

void bench_inference(Bench& bench, Backend& backend, Model& model, const Shape& shape) {
  constexpr int64_t kContext = 256;
  constexpr int64_t kBlocks = kContext / kKvBlockTokens;
  for (const int64_t num_sequences : {1, 8, 32, 128}) {
    model.reserve_inference(std::max<int64_t>(num_sequences, kContext), kContext);
    KvCache cache(backend, shape.config, num_sequences * kBlocks);
    std::vector<int32_t> tables, token_ids(static_cast<size_t>(std::max(num_sequences, kContext)), 5);
    for (int64_t block = 0; block < num_sequences * kBlocks; ++block) tables.push_back(static_cast<int32_t>(block));
    std::vector<SampledToken> tokens(static_cast<size_t>(num_sequences));
    const std::vector<SampleRequest> draws(tokens.size());
    const auto sample = [&](int64_t first, int64_t count, const float* logits) {
      backend.sample(tokens.data() + first, logits, draws.data() + first, count, shape.config.vocab_size);
    };
    std::vector<int32_t> logit_rows;
    std::vector<SequenceSlice> slices;
    const auto prefill = [&](int64_t sequence) {
      const SequenceSlice slice{0, kContext - 1, 0, tables.data() + sequence * kBlocks};
      const int32_t last = kContext - 2;
      model.forward({token_ids.data(), kContext - 1, &slice, 1, &last, 1}, cache, sample);
    };
    for (int64_t s = 0; s < num_sequences; ++s) {
      prefill(s);
      logit_rows.push_back(static_cast<int32_t>(s));
      slices.push_back({s, 1, kContext - 1, tables.data() + s * kBlocks});
    }
    if (num_sequences == 1) bench.measure(shape.name, "prefill_255", kContext - 1, [&] { prefill(0); });
    bench.measure(shape.name, "decode_" + std::to_string(num_sequences), 16 * num_sequences, [&] {
      for (int step = 0; step < 16; ++step) {
        model.forward({token_ids.data(), num_sequences, slices.data(), num_sequences, logit_rows.data(), num_sequences},
                      cache, sample);
      }
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  Bench bench{argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency()),
              argc > 2 ? std::atoi(argv[2]) : 5, argc > 3 ? argv[3] : ""};
  const Shape shapes[] = {
      {"bench-30m", config_of(8192, 384, 8, 6, 2, 64, 1024), 8, 512},
      {"tiny", config_of(1024, 128, 4, 4, 2, 32, 384), 64, 400},
  };
  for (const Shape& shape : shapes) {
    const std::unique_ptr<Backend> backend = create_backend("cpu", bench.num_threads);
    Model model(*backend, shape.config, DType::kFloat32);
    model.initialize(1, 0.02);
    bench_training(bench, *backend, model, shape);
    bench_inference(bench, *backend, model, shape);
  }
  return 0;
}
