// What only a GPU can decide about generation: whether sampled log-probabilities equal those of training to the bit
// over a mixed workload, and how near decoding comes to the rate at which its bytes can be moved. One JSON object a
// line; random weights and tokens; on CUDA bf16. Usage: generation_bench [--device cpu|cuda] [--shape
// nano|qwen3-0.6b|qwen3-4b] [--threads N] [--onpolicy N]
//                         [--longest N] [--decode N] [--context N] [--steps N]
// --onpolicy N samples N tokens at contexts up to --longest and compares them; --decode N times --steps steps of
// decoding N sequences of --context tokens each, and their prefill.
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/options.h"
#include "bench/shapes.h"
#include "infer/generator.h"
#include "train/trainer.h"

using namespace wideseek;

namespace {

struct Options {
  std::string device = "cuda", shape = "qwen3-0.6b";
  int64_t threads = 2, onpolicy = 0, longest = 30000, decode = 0, context = 2048, steps = 64;
};

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(philox_block(seed_, 2, next_++)[0] % static_cast<uint64_t>(high - low + 1));
  }
  // In [low, high], as many of each order of magnitude.
  int64_t spread(int64_t low, int64_t high) {
    const double share = static_cast<double>(integer(0, 1 << 20)) / (1 << 20);
    return std::min(high, static_cast<int64_t>(static_cast<double>(low) *
                                               std::pow(static_cast<double>(high) / static_cast<double>(low), share)));
  }
  std::vector<int32_t> tokens(int64_t count, int64_t vocab_size) {
    std::vector<int32_t> all;
    for (int64_t i = 0; i < count; ++i) all.push_back(static_cast<int32_t>(integer(0, vocab_size - 1)));
    return all;
  }

 private:
  uint64_t seed_, next_ = 0;
};

struct Sample {
  std::vector<int32_t> token_ids;  // of the prompt, at last of all
  size_t num_prompt_tokens = 0;
  int64_t max_new_tokens = 0;
  std::vector<float> logprobs;
};

void add(Generator& generator, Sample& sample, uint64_t key, float temperature) {
  GenerateRequest request{};
  request.prompt_ids = sample.token_ids;
  request.max_new_tokens = sample.max_new_tokens;
  request.seed = key;
  request.sampling.temperature = temperature;
  request.on_done = [&sample](Completion completion) {
    sample.token_ids.insert(sample.token_ids.end(), completion.token_ids.begin(), completion.token_ids.end());
    sample.logprobs = std::move(completion.logprobs);
  };
  request.on_error = [](std::exception_ptr reason) { std::rethrow_exception(std::move(reason)); };
  generator.add(key, std::move(request));
}

// Groups of 8 that share a beginning, some of whose members share more; one prompt in 24 is long.
std::vector<Sample> mixed_workload(int64_t num_tokens, int64_t longest, int64_t vocab_size) {
  Random random(1);
  std::vector<Sample> samples;
  std::vector<int32_t> shared;
  for (int64_t left = num_tokens; left > 0;) {
    const size_t number = samples.size();
    if (number % 8 == 0) shared = random.tokens(random.spread(longest / 300, longest / 20), vocab_size);
    Sample sample;
    sample.max_new_tokens = std::min({left, random.spread(16, 1000), longest / 3});
    const int64_t most = longest - static_cast<int64_t>(shared.size()) - sample.max_new_tokens;
    const int64_t own = number % 24 == 5 ? random.integer(most / 2, most) : random.spread(1, longest / 30);
    sample.token_ids = number % 3 == 2 ? std::vector<int32_t>() : shared;
    const std::vector<int32_t> tail = random.tokens(own, vocab_size);
    sample.token_ids.insert(sample.token_ids.end(), tail.begin(), tail.end());
    sample.num_prompt_tokens = sample.token_ids.size();
    left -= sample.max_new_tokens;
    samples.push_back(std::move(sample));
  }
  return samples;
}

struct Difference {
  int64_t tokens = 0, unequal = 0;
  double largest = 0, sum = 0;
};

// Scores samples [first, end) in one pass of training.
void compare(Trainer& trainer, const std::vector<Sample>& samples, size_t first, size_t end, Difference& found) {
  std::vector<int32_t> token_ids, cu_seqlens{0};
  for (size_t s = first; s < end; ++s) {
    token_ids.insert(token_ids.end(), samples[s].token_ids.begin(), samples[s].token_ids.end());
    cu_seqlens.push_back(static_cast<int32_t>(token_ids.size()));
  }
  std::vector<float> logprobs(token_ids.size()), entropies(token_ids.size());
  const PackedBatch batch{static_cast<int64_t>(token_ids.size()),
                          static_cast<int64_t>(end - first),
                          token_ids.data(),
                          cu_seqlens.data(),
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};
  trainer.logprobs(batch, 1.0f, logprobs.data(), entropies.data());
  for (size_t s = first; s < end; ++s) {
    const size_t at = static_cast<size_t>(cu_seqlens[s - first]) + samples[s].num_prompt_tokens;
    for (size_t t = 0; t < samples[s].logprobs.size(); ++t) {
      const float sampled = samples[s].logprobs[t], trained = logprobs[at + t];
      const double difference = std::fabs(static_cast<double>(sampled) - trained);
      ++found.tokens;
      found.unequal += sampled == trained ? 0 : 1;
      found.sum += difference;
      // Also NaN.
      if (!(difference <= found.largest)) found.largest = difference;
    }
  }
}

// The first requests one after the other, then ever more at a time, in a cache that does not hold them all.
void measure_onpolicy(const Options& options, Backend& backend, Model& model) {
  const int64_t vocab_size = model.config().vocab_size;
  std::vector<Sample> samples = mixed_workload(options.onpolicy, options.longest, vocab_size);
  const int64_t max_tokens = 2 * options.longest;
  Generator generator(backend, model, {options.longest, 6 * options.longest, options.longest / 15});
  Trainer trainer(model, {max_tokens, Recompute::kFull}, [&](int64_t bytes) { return generator.lend_cache(bytes); });
  const double start = bench::seconds_now();
  int64_t in_flight = 0, largest_batch = 0;
  const auto step = [&] {
    generator.step(1);
    const GeneratorStats now = generator.stats();
    in_flight = now.num_running + now.num_waiting;
    largest_batch = std::max(largest_batch, now.num_running);
  };
  for (size_t s = 0; s < samples.size(); ++s) {
    const int64_t most = std::min<int64_t>(1 + static_cast<int64_t>(s * s) / 8, 400);
    while (in_flight >= most) step();
    add(generator, samples[s], s, 1.0f);
    ++in_flight;
  }
  while (!generator.idle()) step();
  const double generated = bench::seconds_now();
  Difference found;
  for (size_t first = 0, end = 0; first < samples.size(); first = end) {
    auto tokens = static_cast<int64_t>(samples[first].token_ids.size());
    for (end = first + 1; end < samples.size(); ++end) {
      tokens += static_cast<int64_t>(samples[end].token_ids.size());
      if (tokens > max_tokens) break;
    }
    compare(trainer, samples, first, end, found);
  }
  const GeneratorStats stats = generator.stats();
  std::printf("{\"bench\":\"onpolicy\",\"shape\":\"%s\",\"tokens\":%lld,\"unequal\":%lld,\"max_abs_diff\":%.9g,",
              options.shape.c_str(), static_cast<long long>(found.tokens), static_cast<long long>(found.unequal),
              found.largest);
  std::printf("\"mean_abs_diff\":%.9g,\"requests\":%zu,\"longest\":%lld,\"largest_batch\":%lld,\"preemptions\":%lld,",
              found.sum / static_cast<double>(std::max<int64_t>(1, found.tokens)), samples.size(),
              static_cast<long long>(options.longest), static_cast<long long>(largest_batch),
              static_cast<long long>(stats.num_preemptions));
  std::printf("\"cached_tokens\":%lld,\"steps\":%lld,\"replays\":%lld,\"generate_s\":%.2f,\"score_s\":%.2f}\n",
              static_cast<long long>(stats.num_cached_tokens), static_cast<long long>(stats.num_steps),
              static_cast<long long>(backend.num_replays()), generated - start, bench::seconds_now() - generated);
}

// Bytes of all weights that a step reads. A tied embedding is read as the LM head; else its rows are few.
double weight_bytes(const Model& model) {
  int64_t elements = 0;
  for (const Parameter& parameter : model.parameters()) {
    const bool is_lookup = parameter.name == "model.embed_tokens.weight" && !model.config().tie_word_embeddings;
    if (!is_lookup) elements += parameter.num_elements();
  }
  return static_cast<double>(elements * dtype_bytes(model.activation_dtype()));
}

void measure_decode(const Options& options, Backend& backend, Model& model) {
  constexpr int64_t kWarmUps = 8;
  const ModelConfig& config = model.config();
  const int64_t batch = options.decode, new_tokens = kWarmUps + options.steps + 2;
  const int64_t context = options.context + new_tokens;
  Generator generator(backend, model, {context, batch * (context + KvCache::kBlockTokens), 8192});
  std::vector<Sample> samples(static_cast<size_t>(batch));
  Random random(2);
  for (size_t s = 0; s < samples.size(); ++s) {
    samples[s].token_ids = random.tokens(options.context, config.vocab_size);
    samples[s].max_new_tokens = new_tokens;
    add(generator, samples[s], s, 1.0f);
  }
  backend.synchronize();
  const double start = bench::seconds_now();
  // All have their first token when the prompts are computed.
  while (generator.stats().num_computed_tokens < batch * options.context) generator.step(1);
  const double prefill = bench::seconds_now() - start;
  while (generator.stats().num_waiting > 0) generator.step(1);
  for (int64_t i = 0; i < kWarmUps; ++i) generator.step(1);
  const int64_t generated = generator.stats().num_generated_tokens;
  std::vector<double> seconds;
  double last = bench::seconds_now();
  for (int64_t i = 0; i < options.steps && !generator.idle(); ++i) {
    generator.step(1);
    const double now = bench::seconds_now();
    seconds.push_back(now - last);
    last = now;
  }
  const int64_t tokens = generator.stats().num_generated_tokens - generated;
  while (!generator.idle()) generator.step(1);
  double total = 0;
  for (const double one : seconds) total += one;
  std::sort(seconds.begin(), seconds.end());
  const double per_step = total / static_cast<double>(seconds.size());
  const double kv = static_cast<double>(Generator::cache_bytes(model, batch * (options.context + new_tokens / 2)));
  const double bytes = weight_bytes(model) + kv;
  std::printf("{\"bench\":\"decode\",\"shape\":\"%s\",\"batch\":%lld,\"context\":%lld,\"steps\":%zu,",
              options.shape.c_str(), static_cast<long long>(batch), static_cast<long long>(options.context),
              seconds.size());
  std::printf("\"tokens_per_s\":%.6g,\"ms_per_step\":%.5g,\"ms_min\":%.5g,\"ms_max\":%.5g,\"bytes\":%.6g,",
              static_cast<double>(tokens) / total, per_step * 1e3, seconds.front() * 1e3, seconds.back() * 1e3, bytes);
  std::printf("\"tb_per_s\":%.5g,\"replays\":%lld}\n", bytes / per_step * 1e-12,
              static_cast<long long>(backend.num_replays()));
  // 2 a weight and token (each token's logits are not computed), and causal attention's 4 L/2 a head element.
  const double weights = (weight_bytes(model) / static_cast<double>(dtype_bytes(model.activation_dtype()))) -
                         static_cast<double>(config.vocab_size * config.hidden_size);
  const double operations =
      2 * weights + 2.0 * static_cast<double>(config.num_layers * config.num_heads * config.head_dim * options.context);
  const double rate = static_cast<double>(batch * options.context) / prefill;
  std::printf(
      "{\"bench\":\"prefill\",\"shape\":\"%s\",\"batch\":%lld,\"context\":%lld,\"tokens_per_s\":%.6g,\"tflops\":%.5g}"
      "\n",
      options.shape.c_str(), static_cast<long long>(batch), static_cast<long long>(options.context), rate,
      rate * operations * 1e-12);
}

Options parse(int argc, char** argv) {
  Options options;
  bench::read_options("generation_bench", argc, argv,
                      {{{"--threads", &options.threads},
                        {"--onpolicy", &options.onpolicy},
                        {"--longest", &options.longest},
                        {"--decode", &options.decode},
                        {"--context", &options.context},
                        {"--steps", &options.steps}},
                       {{"--device", &options.device}, {"--shape", &options.shape}}});
  WS_CHECK(options.longest >= 300 && options.context > 0 && options.steps > 0, kInvalidArgument, "generation_bench",
           "--longest must be at least 300, --context and --steps at least 1");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program([&] {
    const Options options = parse(argc, argv);
    const std::unique_ptr<Backend> backend = bench::backend_of(options.device, options.threads);
    Model model(*backend, bench::config_of(options.shape), backend->activation_dtype());
    bench::fill_weights(*backend, model);
    if (options.decode > 0) measure_decode(options, *backend, model);
    if (options.onpolicy > 0) measure_onpolicy(options, *backend, model);
  });
}
